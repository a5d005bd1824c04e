"""Whether a target has the networks that a VM is plugged into."""

from __future__ import annotations

import pytest

from nodes.operations.networks import HostNetworks
from nodes.operations.plan.constraints import network_names
from tests.operations.plan.constraints.states import codes, found, source, target, vm

CARDS = (
    "<interface type='bridge'><source bridge='br0'/></interface>"
    "<interface type='network'><source network='lan' bridge='virbr1'/></interface>"
    "<interface type='direct'><source dev='enp3s0' mode='bridge'/></interface>"
    "<interface type='user'/>"
)


@pytest.mark.parametrize(
    ("networks", "lacking"),
    [
        (HostNetworks(frozenset({"br0", "enp3s0"}), frozenset({"lan"})), []),
        (HostNetworks(None, None), []),
        (HostNetworks(frozenset({"enp3s0"}), frozenset({"lan"})), ["br0"]),
        (HostNetworks(frozenset({"br0"}), frozenset()), ["lan", "enp3s0"]),
    ],
)
def test_a_target_without_the_bridge_or_network_of_a_vm_is_told(networks, lacking):
    findings = found(network_names.check, vm(CARDS), source(), target(networks=networks))
    assert codes(findings) == ["network_not_on_target"] * len(lacking)
    assert all(name in reason.message for name, reason in zip(lacking, findings.reasons, strict=True))
