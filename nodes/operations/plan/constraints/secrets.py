"""The target has the libvirt secrets that the VM's disks and TPM are opened with.

libvirt moves no secret with a VM: the target's looks its own up, by UUID or by what it is for
(https://libvirt.org/formatsecret.html).
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    wanted = _named(vm)
    if not wanted:
        return
    if target.secrets is None:
        yield Note(_("Not verified: the libvirt secrets of %s could not be read.") % target.name)
        return
    for name in wanted:
        if name not in target.secrets:
            text = _("has no libvirt secret “%s”, which the VM needs") % name
            remedy = _("Define the same secret on the target (virsh secret-define, secret-set-value).")
            yield Reason("secret_not_on_target", text, remedy)


def _named(vm: VmState) -> tuple[str, ...]:
    """The secrets by UUID, or by usage where they have no UUID, each once."""
    if vm.element is None:
        return ()
    found: dict[str, None] = {}
    for secret in vm.element.iter("secret", "encryption"):
        # <encryption secret='…'/> of a TPM, <secret uuid='…'/> or <secret usage='…'/> of a disk
        uuid = secret.get("uuid") or (secret.get("secret") if secret.tag == "encryption" else None)
        name = (uuid.lower() if uuid else None) or secret.get("usage")
        if name:
            found[name] = None
    return tuple(found)
