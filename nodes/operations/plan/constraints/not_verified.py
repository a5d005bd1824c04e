"""What may stop a migration and is not checked, named as such."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    if vm.element is not None:
        found = vm.element.find
        if (security := found("launchSecurity")) is not None:
            text = _("Not verified: whether a VM with encrypted memory (%s) can be migrated.")
            yield Note(text % (security.get("type") or "launchSecurity"))
        if found("devices/memory[@model='nvdimm']") is not None or (
            found("devices/memory[@model='virtio-pmem']") is not None
        ):
            yield Note(_("Not verified: its NVDIMM lies in a file or device of the host."))
        if found("devices/shmem") is not None:
            yield Note(_("Not verified: it shares memory with other processes of its host (ivshmem)."))
        if _has_invariant_tsc(vm):
            yield Note(_("Not verified: QEMU may refuse to migrate a VM with an invariant TSC (invtsc)."))
    for host in (source, target):
        for hook in host.resources.hooks if host.resources is not None else ():
            words = {"hook": hook, "host": host.name}
            yield Note(_("Not verified: what the hook %(hook)s on %(host)s does with a migration.") % words)


def _has_invariant_tsc(vm: VmState) -> bool:
    features = vm.element.iterfind("cpu/feature[@name='invtsc']") if vm.element is not None else ()
    return any(feature.get("policy") in ("require", "force", None) for feature in features)
