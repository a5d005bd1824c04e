"""Which secrets a host's libvirt knows; never what they hold.

Source: https://libvirt.org/formatsecret.html.
"""

from __future__ import annotations

import libvirt

from nodes.hosts.hypervisor import Hypervisor


def known_secrets(hypervisor: Hypervisor, timeout_s: float) -> frozenset[str]:
    """The secrets by UUID and by usage. Raises HostError."""

    def work(connection: libvirt.virConnect) -> frozenset[str]:
        found = connection.listAllSecrets()
        usages = [usage for secret in found if (usage := secret.usageID())]
        return frozenset([secret.UUIDString().lower() for secret in found] + usages)

    return hypervisor.run(work, what="Asking for the secrets", timeout_s=timeout_s)
