"""Signs and what they add up to, on a clock of our own."""

from __future__ import annotations

from dataclasses import replace

from nodes.inventory.beat import Beat
from nodes.monitor.evidence import Do, Evidence, Phase, State, Timing

BEAT = Beat(number=1, boot_id="b", libvirt_up=True)
DOWN = replace(BEAT, libvirt_up=False)


def listening(now: float = 0.0, **timing: float) -> Evidence:
    evidence = Evidence(Timing(**timing))  # type: ignore[arg-type]
    assert evidence.start(now) is Do.DIAL
    assert evidence.greeted(now) is Do.CONNECT
    evidence.opened(now)
    evidence.heard(now, BEAT)
    assert evidence.state == State(True)
    return evidence


def test_nothing_is_said_before_the_first_contact() -> None:
    evidence = Evidence(Timing())
    evidence.start(0)
    assert evidence.state.online is None


def test_a_first_contact_that_fails_twice_is_offline() -> None:
    evidence = Evidence(Timing())
    evidence.start(0)
    evidence.silent(3, "no answer")
    assert evidence.state.online is None
    assert evidence.passed(evidence.deadline) is Do.DIAL
    evidence.silent(8, "no answer")
    assert evidence.state == State(False, "unreachable", "no answer")


def test_a_late_beat_alone_is_no_alarm() -> None:
    evidence = listening()
    assert evidence.passed(6.4) is Do.NOTHING
    assert evidence.passed(6.5) is Do.DIAL
    assert evidence.phase is Phase.DOUBTING
    evidence.heard(7, BEAT)
    assert evidence.silent(9.5, "no answer") is Do.NOTHING
    assert evidence.state == State(True)


def test_missing_beats_and_a_failed_dial_are_a_loss_within_ten_seconds_of_the_last_beat() -> None:
    evidence = listening()
    assert evidence.passed(6.5) is Do.DIAL
    evidence.silent(6.5 + evidence.timing.greeting_s, "no answer")
    assert evidence.state.reason == "unreachable"
    assert 6.5 + evidence.timing.greeting_s <= 10


def test_a_host_that_answers_but_whose_stream_is_stuck_is_connected_to_anew_without_an_alarm() -> None:
    evidence = listening()
    evidence.passed(6.5)
    assert evidence.greeted(6.6) is Do.RECONNECT
    evidence.opened(7)
    evidence.heard(7.1, BEAT)
    assert evidence.state == State(True)


def test_an_ended_stream_is_followed_by_a_fresh_dial_at_once_and_lost_after_the_second_failure() -> None:
    evidence = listening()
    assert evidence.ended(1) is Do.DIAL
    evidence.silent(1.1, "refused")
    assert evidence.state == State(True)
    assert evidence.passed(2.7) is Do.DIAL
    evidence.silent(2.8, "refused")
    assert evidence.state == State(False, "unreachable", "refused")


def test_an_ssh_server_that_restarts_is_no_alarm() -> None:
    evidence = listening()
    evidence.ended(1)
    evidence.silent(1.1, "refused")
    evidence.passed(2.7)
    assert evidence.greeted(2.8) is Do.CONNECT
    evidence.opened(2.9)
    evidence.heard(3, BEAT)
    assert evidence.state == State(True)


def test_a_changed_host_key_needs_no_second_sign() -> None:
    evidence = listening()
    evidence.ended(1)
    evidence.greeted(1.1)
    evidence.refused(1.2, "host_key_mismatch", "shows another key")
    assert evidence.state == State(False, "host_key_mismatch", "shows another key")


def test_libvirt_down_is_told_by_the_beat_and_recovers_with_one() -> None:
    evidence = listening()
    evidence.heard(5, DOWN)
    assert evidence.state.reason == "libvirt_down"
    evidence.heard(10, BEAT)
    assert evidence.state == State(True)


def test_waits_between_attempts_grow_are_bounded_and_differ() -> None:
    waits = []
    for _ in range(20):
        evidence = listening()
        evidence.passed(6.5)
        evidence.silent(9, "")
        now, last = 9.0, 0.0
        for _ in range(8):
            last = evidence.deadline - now
            now = evidence.deadline
            assert evidence.passed(now) is Do.DIAL
            now += 3
            evidence.silent(now, "")
        assert 0 < last <= evidence.timing.longest_s
        waits.append(last)
    assert len({round(wait, 3) for wait in waits}) > 10


def test_a_node_that_comes_and_goes_is_back_only_after_a_calm_time() -> None:
    evidence = listening()
    now = 0.0
    for _ in range(3):
        evidence.ended(now)
        evidence.greeted(now)
        evidence.refused(now, "ssh_auth_failed", "")
        evidence.passed(now + 100)
        evidence.greeted(now + 100)
        evidence.opened(now + 100)
        evidence.heard(now + 100, BEAT)
        now += 100
    assert evidence.is_flapping
    assert evidence.state.online is False
    for later in range(5, 26, 5):
        evidence.heard(now + later, BEAT)
        assert evidence.state.online is False
    evidence.heard(now + 30, BEAT)
    assert evidence.state == State(True)


def test_this_machine_is_not_dialed() -> None:
    evidence = Evidence(Timing(), direct=True)
    assert evidence.start(0) is Do.CONNECT
    evidence.opened(0)
    evidence.heard(0, BEAT)
    assert evidence.passed(7) is Do.RECONNECT


def silent_stream(evidence: Evidence, now: float) -> None:
    """A host that answers, and a stream over it that brings nothing."""
    evidence.passed(now)
    evidence.greeted(now)
    evidence.opened(now)


def test_a_host_that_answers_but_whose_shell_is_mute_is_no_more_online() -> None:
    evidence = listening()
    silent_stream(evidence, 6.5)
    assert evidence.state == State(True)
    assert evidence.passed(6.5 + evidence.timing.first_beat_s) is Do.DIAL
    evidence.greeted(22)
    assert (evidence.state.online, evidence.state.reason) == (False, "probe_failing")
    assert evidence.deadline > 22
    # Not over the same connection: sshd counts the session of a command that hangs.
    assert evidence.passed(evidence.deadline) is Do.DIAL
    assert evidence.greeted(30) is Do.RECONNECT
    evidence.opened(30)
    evidence.heard(31, BEAT)
    assert evidence.state == State(True)


def test_a_mute_host_that_stops_to_answer_is_unreachable() -> None:
    evidence = listening()
    silent_stream(evidence, 6.5)
    evidence.passed(21.5)
    evidence.silent(24, "no answer")
    assert evidence.state.reason == "unreachable"


def test_a_command_that_ends_before_its_first_line_is_told_and_not_repeated_at_once() -> None:
    evidence = Evidence(Timing())
    evidence.start(0)
    evidence.greeted(0)
    evidence.opened(0.1)
    assert evidence.ended(0.2) is Do.DIAL
    assert evidence.state.online is None
    evidence.greeted(3)
    evidence.opened(3)
    evidence.ended(3.1)
    assert evidence.state.reason == "probe_failing"
    assert evidence.deadline - 3.1 >= 0.6 * evidence.timing.shortest_s


def test_streams_that_bring_one_beat_and_end_are_not_opened_without_a_pause() -> None:
    evidence = Evidence(Timing())
    evidence.start(0)
    for now, next_step in ((0.0, Do.DIAL), (10.0, Do.NOTHING), (20.0, Do.NOTHING)):
        evidence.greeted(now)
        evidence.opened(now)
        evidence.heard(now + 0.1, BEAT)
        assert evidence.ended(now + 0.2) is next_step
        if next_step is Do.NOTHING:
            assert evidence.passed(now + 5) is Do.DIAL
    assert evidence.state == State(True)


def test_a_mute_shell_of_this_machine_is_told_without_a_dial() -> None:
    evidence = Evidence(Timing(), direct=True)
    evidence.start(0)
    evidence.opened(0)
    assert evidence.passed(15) is Do.RECONNECT
    evidence.opened(15)
    evidence.passed(30)
    assert evidence.state.reason == "probe_failing"


def test_a_libvirt_that_comes_and_goes_is_back_only_after_a_calm_time() -> None:
    evidence = listening()
    for now in range(100, 130, 10):
        evidence.heard(now, DOWN)
        evidence.heard(now + 5, BEAT)
    assert evidence.is_flapping
    assert evidence.state.reason == "libvirt_down"
    for now in range(130, 160, 5):
        evidence.heard(now, BEAT)
    assert evidence.state == State(True)


def test_time_in_which_the_monitor_itself_stood_still_is_not_held_against_the_host() -> None:
    evidence = listening()
    evidence.slept(20, 20)
    assert evidence.passed(20.1) is Do.NOTHING
    assert evidence.passed(26.5) is Do.DIAL


def test_beats_that_were_read_before_the_monitor_knew_of_its_sleep_get_no_time_of_it_too() -> None:
    evidence = listening()
    evidence.heard(3600, BEAT)
    evidence.slept(3600, 3595)
    assert not evidence.heard_after(3600)
    assert evidence.passed(3600 + evidence.timing.first_beat_s) is Do.DIAL


def test_a_host_that_is_silent_between_its_refusals_is_spared_all_the_same() -> None:
    evidence = listening()
    evidence.passed(6.5)
    evidence.silent(9.5, "no answer")
    waits = []
    for _ in range(8):
        for reason in ("", "ssh_auth_failed"):
            now = evidence.deadline
            evidence.passed(now)
            if reason:
                evidence.greeted(now)
                evidence.refused(now, reason, "no such key")
                waits.append(evidence.deadline - now)
            else:
                evidence.silent(now, "no answer")
    assert max(waits) > evidence.timing.refused_longest_s / 2


def test_only_a_host_that_greets_and_lets_one_wait_counts_as_stalled() -> None:
    evidence = listening()
    evidence.ended(6)
    evidence.silent(6.1, "refused")
    assert evidence.stalled == 0
    evidence.passed(evidence.deadline)
    evidence.greeted(8)
    evidence.silent(18, "the key exchange did not end")
    assert (evidence.stalled, evidence.state.reason) == (1, "unreachable")
    evidence.passed(evidence.deadline)
    evidence.greeted(30)
    evidence.opened(31)
    assert evidence.stalled == 0


def test_a_login_that_is_refused_for_a_moment_after_a_start_is_tried_again_soon() -> None:
    evidence = listening()
    evidence.passed(6.5)
    now = 9.5
    for _ in range(10):
        evidence.silent(now, "no answer")
        now = evidence.deadline
        evidence.passed(now)
    evidence.greeted(now)
    evidence.refused(now, "ssh_auth_failed", "the system is starting")
    assert evidence.deadline - now <= 2 * evidence.timing.shortest_s
    waits = []
    for _ in range(10):
        now = evidence.deadline
        evidence.passed(now)
        evidence.greeted(now)
        evidence.refused(now, "ssh_auth_failed", "no such key")
        waits.append(evidence.deadline - now)
    assert max(waits) > evidence.timing.refused_longest_s / 2
