"""The network: its picture, and a table for each kind of interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodes.web.pictures import network

Facts = Mapping[str, Any]


def prepare(facts: Facts) -> dict[str, Any]:
    cards = [nic for nic in facts["nics"] if not nic["physical_function"]]
    virtual = [nic for nic in facts["nics"] if nic["physical_function"]]
    return {
        "picture": network.draw(facts),
        "cards": cards,
        "virtual": virtual,
        "dividable": [nic for nic in cards if nic["sriov"] and nic["sriov"]["total_vfs"]],
        "degraded": [bond for bond in facts["bonds"] if bond["degraded"]],
        "others": [*facts["tunnels"], *facts["other"]],
    }
