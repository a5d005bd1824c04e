"""The target's libvirt labels VMs by the security models that the VM's labels belong to.

A VM that runs under AppArmor or SELinux is refused by a libvirt without that driver
(https://libvirt.org/formatdomain.html#security-label).
"""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    models = _models(vm)
    if target.capabilities is None or not target.capabilities.security_models:
        # Not a note: almost every VM has a label, and libvirt itself refuses what does not fit.
        return
    for model in models:
        if model not in target.capabilities.security_models:
            text = _("does not have libvirt's security driver “%s”, which the VM's label belongs to")
            remedy = _("Set the same security_driver in /etc/libvirt/qemu.conf on both hosts.")
            yield Reason("security_model_differs", text % model, remedy)


def _models(vm: VmState) -> tuple[str, ...]:
    labels = vm.element.iterfind("seclabel") if vm.element is not None else ()
    found = (label.get("model") for label in labels if label.get("type") != "none")
    return tuple(dict.fromkeys(model for model in found if model))
