"""Redfish against a BMC that misbehaves, in each way that BMCs were seen to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from nodes.errors import BmcBusy, BmcFailed, BmcUnreachable
from nodes.hosts.bmc.service import Pace
from nodes.hosts.certificates import show_certificate, write_fingerprint
from nodes.hosts.deadlines import Clock
from nodes.hosts.redfish import Redfish
from tests.hostile.bmc import RESET, ROOT, SESSIONS, SYSTEM, Break, Hang, MisbehavingBmc, Say, error
from tests.network import ANYWHERE
from tests.software_bmc import PASSWORD

QUICK = Pace(first_pause_s=0.02, longest_pause_s=0.1, late_s=0.5, look_s=0.05)


@pytest.fixture
def bmc(tmp_path: Path) -> Iterator[MisbehavingBmc]:
    with MisbehavingBmc(tmp_path) as running:
        yield running


def opened(bmc: MisbehavingBmc, *, within_s: float = 10.0, timeout_s: float = 5.0, **changes: Any) -> Redfish:
    return Redfish(bmc.target(**changes), timeout_s=timeout_s, clock=Clock(within_s), pace=QUICK)


def switched_on(bmc: MisbehavingBmc, **options: Any) -> str:
    with opened(bmc, **options) as redfish:
        return redfish.switch_on(redfish.system())


# -- later ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507])
def test_an_answer_that_says_later_is_asked_for_again(bmc, status):
    bmc.instead("GET", SYSTEM, Say(status), Say(status))
    with opened(bmc) as redfish:
        assert redfish.power_state() == "Off"
    assert bmc.asked("GET", SYSTEM) == 3


@pytest.mark.parametrize("fault", [Break(), Break(within=True), Hang(0.5)], ids=["reset", "halved", "late"])
def test_a_connection_that_breaks_or_hangs_is_made_again(bmc, fault):
    bmc.instead("GET", SYSTEM, fault, fault)
    with opened(bmc, timeout_s=0.3) as redfish:
        assert redfish.power_state() == "Off"
    assert bmc.asked("GET", SYSTEM) == 3


def test_a_handshake_that_is_broken_off_is_begun_again_also_where_the_certificate_is_looked_at(bmc):
    bmc.broken_handshakes = 2
    with opened(bmc) as redfish:
        assert redfish.power_state() == "Off"
    bmc.broken_handshakes = 2
    shown = show_certificate(bmc.address.host, bmc.address.port, timeout_s=20, rules=ANYWHERE)
    assert shown.fingerprint == write_fingerprint(bmc.fingerprint)


@pytest.mark.parametrize("as_date", [False, True])
def test_the_time_that_a_bmc_asks_for_is_waited(bmc, as_date):
    asks = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    bmc.instead("GET", SYSTEM, Say(503, {"Retry-After": asks}))
    with opened(bmc) as redfish:
        assert redfish.power_state() == "Off"
    first, second = [request.at for request in bmc.requests if request.path == SYSTEM]
    assert second - first > 0.9


def test_a_time_beyond_the_deadline_is_not_waited_for_and_is_told(bmc):
    bmc.instead("GET", SYSTEM, Say(429, {"Retry-After": "600"}))
    begun = time.monotonic()
    with pytest.raises(BmcBusy) as failure, opened(bmc) as redfish:
        redfish.power_state()
    assert time.monotonic() - begun < 3
    assert "600 s" in failure.value.message
    assert failure.value.extra["retry_after_s"] == 600


@pytest.mark.parametrize("path", [ROOT, "/redfish/v1/Systems", SYSTEM])
def test_a_bmc_that_stays_busy_is_told_by_what_was_seen_and_never_as_no_redfish_service(bmc, path):
    bmc.always("GET", path, Say(503, body=error("The BMC is starting.")))
    with pytest.raises(BmcBusy) as failure, opened(bmc, within_s=0.6) as redfish:
        redfish.find_system()
    told = failure.value
    seen = f"HTTP 503 from {bmc.address.url}{path} (“The BMC is starting.”)"
    assert f"{seen}, {bmc.asked('GET', path)} times" in told.message  # and perhaps that no time was left
    assert bmc.asked("GET", path) > 2
    assert "not a Redfish" not in told.detail()
    assert (told.code, told.retryable, told.extra["reason"]) == ("bmc_busy", True, "busy")


def test_a_bmc_that_only_breaks_off_is_unreachable_and_told_so(bmc):
    bmc.always("GET", SYSTEM, Break())
    told = r"was broken off, \d+ times in 1 s"
    with pytest.raises(BmcUnreachable, match=told) as failure, opened(bmc, within_s=0.5) as redfish:
        redfish.power_state()
    assert failure.value.code == "bmc_unreachable"


def test_every_pause_can_be_ended_from_outside(bmc):
    class Cancelled(Exception):
        pass

    def sleep(_seconds: float) -> None:
        raise Cancelled

    bmc.always("GET", SYSTEM, Say(503))
    with pytest.raises(Cancelled), Redfish(bmc.target(), clock=Clock(60), pace=QUICK, sleep=sleep) as redfish:
        redfish.power_state()


# -- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [Say(503), Say(503, {"Retry-After": "1"}), Say(429), Say(500), Say(502), Say(504), Break(), Hang(0.5)],
    ids=str,
)
def test_a_command_that_was_not_carried_out_is_sent_again(bmc, fault):
    bmc.instead("POST", RESET, fault)
    assert switched_on(bmc, timeout_s=0.3) == "On"
    assert bmc.resets == ["On"]
    between = [request.method for request in bmc.requests]
    first = between.index("POST")
    assert "GET" in between[first : len(between) - between[::-1].index("POST")], (
        "the state is read in between"
    )


@pytest.mark.parametrize("late_s", [0.0, 0.3])
@pytest.mark.parametrize(
    "fault",
    [
        Say(500, carried_out=True),
        Say(504, carried_out=True),
        Break(carried_out=True),
        Hang(0.5, carried_out=True),
    ],
    ids=str,
)
def test_a_command_whose_answer_was_lost_is_not_sent_twice(bmc, fault, late_s):
    bmc.late_s = late_s
    bmc.instead("POST", RESET, fault)
    assert switched_on(bmc, timeout_s=0.3) == "", "found on, not confirmed"
    assert bmc.resets == ["On"]
    assert bmc.asked("POST", RESET) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        Say(409, body=error("Server is already powered ON.", "IDRAC.2.8.PSU501")),
        Say(400, body=error("Invalid for this state.", "iLO.2.15.InvalidOperationForSystemState")),
        Say(403, body=error("Session limit.", "Base.1.8.SessionLimitExceeded")),
    ],
    ids=["409", "400", "later in other words"],
)
def test_a_refusal_of_a_machine_that_is_on_is_success(bmc, refusal):
    with opened(bmc) as redfish:
        system = redfish.system()
        bmc.set_state("On")
        bmc.instead("POST", RESET, refusal)
        assert redfish.switch_on(system) == ""
    assert bmc.resets == []


def test_a_conflict_with_a_machine_whose_bmc_tells_late_that_it_is_on_is_success(bmc):
    bmc.late_s = 0.3
    bmc.set_state("On")
    assert switched_on(bmc) == ""
    assert bmc.resets == []


def test_a_machine_that_is_being_switched_off_is_waited_for_and_then_switched_on(bmc):
    bmc.state = "PoweringOff"
    threading.Timer(0.4, bmc.set_state, ["Off"]).start()
    assert switched_on(bmc) == "On"
    assert bmc.resets == ["On"]


@pytest.mark.parametrize("status", [400, 405, 409])
def test_a_machine_that_stays_off_is_refused_with_the_bmcs_words_after_one_command(bmc, status):
    bmc.always("POST", RESET, Say(status, body=error("The chassis is open.")))
    with pytest.raises(BmcFailed, match="The chassis is open") as failure:
        switched_on(bmc)
    assert failure.value.extra["reason"] == "reset_refused"
    assert bmc.asked("POST", RESET) == 1


def test_a_bmc_that_takes_no_command_in_time_is_busy(bmc):
    bmc.always("POST", RESET, Say(503))
    with pytest.raises(BmcBusy, match=r"HTTP 503 from .*Reset, \d+ times"):
        switched_on(bmc, within_s=0.8)
    assert bmc.resets == []


@pytest.mark.parametrize("where", ["header", "body"])
def test_an_etag_is_sent_where_one_is_demanded(bmc, where):
    bmc.etags = where
    assert switched_on(bmc) == "On"
    assert bmc.asked("POST", RESET) == 2


def test_an_etag_that_is_over_is_read_again(bmc):
    bmc.etags = "header"
    bmc.instead("POST", RESET, Say(428), Say(412))
    assert switched_on(bmc) == "On"
    assert bmc.resets == ["On"]


def test_a_demand_for_an_etag_that_there_is_none_of_is_a_refusal(bmc):
    bmc.always("POST", RESET, Say(428, body=error("If-Match is required.")))
    with pytest.raises(BmcFailed, match="If-Match is required"):
        switched_on(bmc)
    assert bmc.asked("POST", RESET) == 1


# -- logging in -----------------------------------------------------------------------------------


def test_a_session_is_opened_where_basic_authentication_is_off_and_deleted_at_the_end(bmc):
    bmc.basic = False
    with opened(bmc) as redfish:
        assert redfish.power_state() == "Off"
        assert redfish.switch_on(redfish.system()) == "On"
        assert len(bmc.open_sessions) == 1
    assert not bmc.open_sessions
    assert bmc.asked("POST", SESSIONS) == 1
    assert sum(1 for request in bmc.requests if request.by_password) == 1, "Basic is tried once"


def test_a_session_is_deleted_also_where_a_call_fails(bmc):
    bmc.basic = False
    with pytest.raises(BmcFailed), opened(bmc) as redfish:
        redfish.system("/redfish/v1/Systems/none")
    assert bmc.asked("POST", SESSIONS) == 1
    assert not bmc.open_sessions


def test_a_session_is_deleted_also_where_the_bmc_names_it_by_an_address_of_its_own(bmc):
    bmc.basic, bmc.named = False, "https://bmc.internal"
    with opened(bmc) as redfish:
        assert redfish.power_state() == "Off"
        assert len(bmc.open_sessions) == 1
    assert not bmc.open_sessions


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_login_is_led_elsewhere_within_the_service_and_to_nobody_else(bmc, status):
    bmc.basic = False
    bmc.instead("POST", SESSIONS, Say(status, {"Location": f"{SESSIONS}/"}))
    bmc.instead("POST", f"{SESSIONS}/", Say(status, {"Location": SESSIONS}))
    with opened(bmc) as redfish:
        assert redfish.power_state() == "Off"
    assert not bmc.open_sessions
    bmc.instead("POST", SESSIONS, Say(status, {"Location": "https://127.0.0.2/redfish/v1/Sessions"}))
    with pytest.raises(BmcFailed, match="is not followed"), opened(bmc) as redfish:
        redfish.power_state()


def test_a_session_that_a_bmc_refuses_without_ending_it_is_deleted_before_the_next(bmc):
    bmc.basic, bmc.most_sessions = False, 1
    with opened(bmc) as redfish:
        redfish.power_state()
        bmc.instead("GET", SYSTEM, Say(401, body=error("Try again.")))
        assert redfish.power_state() == "Off"
    assert not bmc.open_sessions


def test_a_session_that_has_ended_is_opened_again(bmc):
    bmc.basic = False
    with opened(bmc) as redfish:
        redfish.power_state()
        bmc.end_sessions()
        assert redfish.switch_on(redfish.system()) == "On"
    assert bmc.asked("POST", SESSIONS) == 2
    assert not bmc.open_sessions


def test_a_bmc_without_a_free_session_is_asked_again_till_one_is_free(bmc):
    bmc.basic, bmc.most_sessions = False, 0
    threading.Timer(0.3, setattr, [bmc, "most_sessions", 1]).start()
    with opened(bmc) as redfish:
        assert redfish.power_state() == "Off"
    bmc.most_sessions = 0
    with pytest.raises(BmcBusy, match="No session is free"), opened(bmc, within_s=0.5) as redfish:
        redfish.power_state()


@pytest.mark.parametrize("sessions", [True, False])
def test_a_wrong_password_is_refused_by_name_and_leaves_no_session(bmc, sessions):
    bmc.basic, bmc.has_sessions = False, sessions
    with pytest.raises(BmcFailed) as failure, opened(bmc, password="not-the-right-one") as redfish:
        redfish.power_state()
    assert failure.value.extra["reason"] == "authentication_failed"
    assert "not-the-right-one" not in failure.value.detail()
    assert bmc.asked("POST", SESSIONS) <= 1, "a user who is tried too often gets locked"
    assert not bmc.open_sessions


def test_a_user_who_may_not_is_refused_without_a_second_login(bmc):
    bmc.always("GET", SYSTEM, Say(403, body=error("Insufficient privilege.")))
    with pytest.raises(BmcFailed, match="Insufficient privilege") as failure, opened(bmc) as redfish:
        redfish.power_state()
    assert failure.value.extra["reason"] == "authentication_failed"
    assert bmc.asked("POST", SESSIONS) == 0


# -- redirections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_redirection_within_the_service_is_followed_for_reading_and_for_the_command(bmc, status, absolute):
    start = bmc.address.url if absolute else ""
    bmc.move("/redfish/v1/Moved", f"{start}{SYSTEM}", status)
    with opened(bmc) as redfish:
        assert redfish.system("/redfish/v1/Moved").name == "machine"
    bmc.instead("POST", RESET, Say(status, {"Location": f"{start}{RESET}"}))
    assert switched_on(bmc) == "On"
    assert bmc.resets == ["On"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", ["another port", "another name", "plain HTTP", "user in it", "not Redfish"])
def test_a_redirection_to_anybody_else_is_not_followed_and_named(bmc, tmp_path, method, kind):
    with MisbehavingBmc(tmp_path / "other") as other:
        locations = {
            "another port": f"{other.address.url}{SYSTEM}",
            "another name": f"https://localhost:{bmc.address.port}{SYSTEM}",
            "plain HTTP": f"http://127.0.0.1:{bmc.address.port}{SYSTEM}",
            "user in it": f"https://a@127.0.0.1:{bmc.address.port}{SYSTEM}",
            "not Redfish": "/login.html",
        }
        path = SYSTEM if method == "GET" else RESET
        bmc.always(method, path, Say(302, {"Location": locations[kind]}))
        with pytest.raises(BmcFailed) as failure:
            switched_on(bmc)
        assert "HTTP 302" in failure.value.message
        assert locations[kind] in failure.value.message
        assert "not followed" in failure.value.message
        assert not other.requests
    assert bmc.asked(method, path) == 1
    assert PASSWORD not in failure.value.detail()


def test_redirections_in_a_circle_come_to_an_end(bmc):
    bmc.move(SYSTEM, "/redfish/v1/There")
    bmc.move("/redfish/v1/There", SYSTEM)
    with pytest.raises(BmcFailed, match="come to an end"), opened(bmc) as redfish:
        redfish.power_state()
    assert len(bmc.requests) < 10
