"""The beat: what the loop prints on a real host; no line, whole or damaged, breaks the reader."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.inventory.beat import Beat, beat_command, beat_script, parse_beat

LINE = (
    "beat 1 n=3 boot=229e7b14-c657-4507-8b8a-5ea016881272 up=4786.36 load=12.61,9.23,6.43 cpu=500537,453245 "
    "mem=1000,400,600 swap=100,75 psi=96.04,0.00,- net=3670,5323 disk=5,10,7,20 libvirt=1 vms=2,3 end"
)


def test_a_line_is_read_in_our_units() -> None:
    assert parse_beat(LINE) == Beat(
        number=3,
        boot_id="229e7b14-c657-4507-8b8a-5ea016881272",
        uptime_s=4786.36,
        load_1=12.61,
        cpu_busy_ticks=500537,
        cpu_idle_ticks=453245,
        memory_total_bytes=1000 * 1024,
        memory_used_bytes=400 * 1024,
        swap_total_bytes=100 * 1024,
        swap_used_bytes=25 * 1024,
        cpu_pressure_percent=96.04,
        memory_pressure_percent=0.0,
        io_pressure_percent=None,
        net_rx_bytes=3670,
        net_tx_bytes=5323,
        disk_reads=5,
        disk_read_bytes=5120,
        disk_writes=7,
        disk_written_bytes=10240,
        libvirt_up=True,
        vms_running=2,
        vms_total=3,
    )


def test_numbers_that_no_column_holds_are_unknown() -> None:
    beat = parse_beat(
        LINE.replace("vms=2,3", f"vms={2**31},{2**31 - 1}").replace("mem=1000", "mem=9999999999999999999")
    )
    assert beat is not None
    assert (beat.vms_running, beat.vms_total, beat.memory_total_bytes) == (None, 2**31 - 1, None)


@given(st.integers(0, len(LINE) - 1))
def test_a_line_that_was_cut_is_no_beat(length: int) -> None:
    assert parse_beat(LINE[:length]) is None


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    parse_beat(text)
    parse_beat(f"beat 1 {text} end")


@given(st.lists(st.sampled_from(LINE.split()), max_size=20), st.text("0123456789.,-=", max_size=30))
def test_shuffled_and_damaged_words_give_values_in_range_or_none(words: list[str], noise: str) -> None:
    beat = parse_beat(
        " ".join(["beat", "1", "n=0", "boot=abc", *words, f"mem={noise}", f"psi={noise}", "end"])
    )
    if beat is not None:
        for name in ("memory_total_bytes", "memory_used_bytes", "net_rx_bytes", "disk_read_bytes"):
            value = getattr(beat, name)
            assert value is None or 0 <= value < 1 << 63
        assert beat.cpu_pressure_percent is None or 0 <= beat.cpu_pressure_percent <= 100


def test_a_value_the_host_does_not_tell_is_unknown_and_costs_no_other() -> None:
    beat = parse_beat("beat 1 n=0 boot=ab up=- mem=-,-,- vms=-,- libvirt=1 load=0.5,1,1 end")
    assert beat is not None
    assert beat.memory_used_bytes is None and beat.vms_running is None and beat.uptime_s is None
    assert beat.libvirt_up is True and beat.load_1 == 0.5


def test_traffic_of_many_petabytes_is_no_nonsense() -> None:
    beat = parse_beat(LINE.replace("net=3670,5323", f"net={10**17},{5 * 10**18}"))
    assert beat is not None
    assert (beat.net_rx_bytes, beat.net_tx_bytes) == (10**17, None)


def test_a_host_without_a_network_card_or_a_disk_tells_no_zeros() -> None:
    script = beat_script(0.5).replace("/sys/class/net/*", "/nowhere/*").replace("/sys/block/*", "/nowhere/*")
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        beat = parse_beat(process.stdout.readline())
        process.stdout.close()
        process.wait(10)
    assert beat is not None and beat.memory_total_bytes is not None
    counters = (beat.net_rx_bytes, beat.net_tx_bytes, beat.disk_read_bytes, beat.disk_writes)
    assert counters == (None, None, None, None)


@pytest.mark.parametrize(
    "shell", [path for name in ("dash", "bash", "busybox") if (path := shutil.which(name))]
)
def test_the_loop_runs_in_every_shell(shell: str, tmp_path: Path) -> None:
    words = [shell, "sh"] if shell.endswith("busybox") else [shell]
    with subprocess.Popen([*words, "-c", beat_script(0.5)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        beats = [parse_beat(process.stdout.readline()) for _ in range(2)]
        process.stdout.close()
        # Nobody reads it any more: it ends by itself, with its next line.
        assert process.wait(10) == 0
    first, second = beats
    assert first is not None and second is not None
    assert (first.number, second.number) == (0, 1)
    assert first.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert second.uptime_s is not None and first.uptime_s is not None and second.uptime_s > first.uptime_s
    assert second.cpu_idle_ticks is not None and second.memory_total_bytes is not None


def test_a_socket_that_somebody_listens_at_is_up_and_a_left_over_one_is_down(tmp_path: Path) -> None:
    path = tmp_path / "libvirt-sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert _one_beat(path).libvirt_up is True
    assert path.exists()
    assert _one_beat(path).libvirt_up is False


def _one_beat(path: Path) -> Beat:
    command = beat_command(0.5, (str(path),))
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        beat = parse_beat(process.stdout.readline())
        process.stdout.close()
        process.wait(10)
    assert beat is not None
    return beat


def test_a_beat_costs_the_host_under_half_a_percent_of_a_core() -> None:
    beats = 50
    script = beat_script(5).replace('sleep "$period"', "sleep 0")
    before = os.times()
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(beats):
            assert parse_beat(process.stdout.readline()) is not None
        process.stdout.close()
        process.wait(10)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent / beats / 5 < 0.005, f"{spent / beats * 1000:.1f} ms a beat"


def test_too_short_a_period_is_refused() -> None:
    with pytest.raises(ValueError, match="half a second"):
        beat_script(0.1)
