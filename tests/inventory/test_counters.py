"""Counters of interfaces, and the rates between two readings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.inventory import net
from nodes.inventory.build import build
from nodes.inventory.counters import (
    CounterReading,
    Counters,
    counters_of_ip,
    counters_of_proc,
    rates,
    readings_of_plain,
)
from nodes.inventory.document import HostDocument
from tests.inventory.documents import host_document


def reading(index: int | None = 2, **counters: int | None) -> dict[str, CounterReading]:
    return {"eth0": CounterReading(index, Counters(**counters))}


def test_a_rate_is_the_difference_a_second() -> None:
    before = reading(rx_bytes=1_000, tx_bytes=500, rx_packets=10, rx_dropped=1)
    after = reading(rx_bytes=31_000, tx_bytes=500, rx_packets=25, rx_dropped=4)
    found = rates(before, after, 30)["eth0"]
    assert (found.rx_bytes_per_s, found.tx_bytes_per_s) == (1000.0, 0.0)
    assert (found.rx_packets_per_s, found.rx_dropped_per_s, found.seconds) == (0.5, 0.1, 30)


def test_a_counter_that_went_back_or_is_unknown_has_no_rate_and_the_others_do() -> None:
    before = reading(rx_bytes=4_294_967_000, tx_bytes=10, rx_errors=None)
    after = reading(rx_bytes=100, tx_bytes=20, rx_errors=5)
    found = rates(before, after, 10)["eth0"]
    assert found.rx_bytes_per_s is None
    assert found.rx_errors_per_s is None
    assert found.tx_bytes_per_s == 1.0


def test_after_a_boot_nothing_has_a_rate_though_counters_may_be_higher() -> None:
    assert rates(reading(rx_bytes=10), reading(rx_bytes=10_000), 10, same_boot=False) == {}


def test_another_interface_of_the_same_name_has_no_rate() -> None:
    assert rates(reading(7, rx_bytes=10), reading(9, rx_bytes=10_000), 10) == {}
    assert rates({}, reading(rx_bytes=10_000), 10) == {}


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_without_time_between_there_is_no_rate(seconds: float) -> None:
    assert rates(reading(rx_bytes=10), reading(rx_bytes=20), seconds) == {}


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.floats(0.001, 1e6))
def test_no_rate_is_negative(first: int, last: int, seconds: float) -> None:
    found = rates(reading(rx_bytes=first), reading(rx_bytes=last), seconds)["eth0"]
    assert (found.rx_bytes_per_s is None) == (last < first)
    assert found.rx_bytes_per_s is None or found.rx_bytes_per_s >= 0


def test_the_columns_of_proc_are_read_by_their_place() -> None:
    lines = [
        "Inter-|   Receive                                        |  Transmit",
        " face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls",
        "  eth0:    1000      20    3    4    5     6    7      8   9000      10   11   12   13    14 15 16",
        "eth1:5 6",
        "eth2: a b c d e f g h i j k l m n o p",
    ]
    found = counters_of_proc(lines)
    assert found["eth0"] == Counters(1000, 20, 3, 4, 8, 9000, 10, 11, 12, 14)
    assert "eth1" not in found
    assert found["eth2"] == Counters()


def test_ip_without_statistics_has_no_counters() -> None:
    assert counters_of_ip({"ifname": "eth0"}) is None
    found = counters_of_ip(
        {"stats64": {"rx": {"bytes": 5, "errors": -1, "dropped": "7"}, "tx": {"bytes": True}}}
    )
    assert found == Counters(rx_bytes=5)


def _plain(document: HostDocument) -> Any:
    return build(document, [net.SECTION]).results["net"].plain


def test_stored_facts_give_the_readings_of_cards_bonds_bridges_and_vms() -> None:
    stored = _plain(host_document("large"))
    readings = readings_of_plain(stored)
    assert {"eno1", "bond0", "br1", "bond1.100", "vnet0", "macvtap0"} <= set(readings)
    assert readings["vnet0"].counters.rx_bytes == 60 * 1_000_000_007
    assert readings["vnet0"].index == 60
    found = rates(readings, readings, 15)
    assert {rate.rx_bytes_per_s for rate in found.values()} == {0.0}


@pytest.mark.parametrize(
    "stored", [None, [], {"nics": None}, {"nics": [1, {"name": 3}, {"name": "a", "counters": 1}]}]
)
def test_facts_of_another_shape_have_no_readings(stored: object) -> None:
    assert readings_of_plain(stored) == {}
