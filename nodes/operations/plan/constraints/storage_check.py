"""libvirt's own check of shared storage is skipped for files that it does not know to be shared: said, since
it is the last one that would notice."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.libvirt_storage_check import files_unknown_to_libvirt
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    for path in files_unknown_to_libvirt(vm, source):
        yield Note(
            _("libvirt does not know that %s is on shared storage. The migration skips its check.") % path
        )
