"""The target can run the VM's emulated TPM, whose state QEMU moves with the VM.

Source: https://libvirt.org/formatdomain.html#tpm-device. What the state is encrypted with is a secret, see
:mod:`nodes.operations.plan.constraints.secrets`.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason

TOOLS = ("swtpm", "swtpm_setup")


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    kind = vm.xml.tpm if vm.xml is not None else None
    if kind == "external":
        yield Note(_("Not verified: the state of its external TPM on %s.") % target.name)
    if kind != "emulator":
        return
    if target.resources is None:
        yield Note(_("Not verified: whether %s has swtpm, which the VM's TPM needs.") % target.name)
        return
    lacking = [tool for tool in TOOLS if tool not in target.resources.tools]
    if lacking:
        text = _("has no %s, which the VM's TPM needs") % lacking[0]
        yield Reason("tpm_not_on_target", text, _("Install swtpm and swtpm-tools on the target."))
