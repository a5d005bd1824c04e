"""The target has the files, folders and devices that the VM's channels, consoles and boot name."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from nodes.operations.plan.host_files import HostFile, named_files
from nodes.operations.plan.host_state import HostState
from nodes.operations.plan.vm_state import VmState
from nodes.operations.plans import Note, Reason


def check(vm: VmState, source: HostState, target: HostState) -> Iterable[Reason | Note]:
    for named in named_files(vm):
        there = target.files.get(named.needed, HostFile(None))
        words = {"host": target.name, "path": named.needed, "device": named.device}
        if there.exists is None:
            text = _("Not verified: whether %(host)s has %(path)s, which the VM's %(device)s needs.")
            yield Note(text % words)
        elif not there.exists or (named.folder_only and not there.is_directory):
            text = _("has no %(path)s, which the VM's %(device)s needs")
            remedy = _("Make it available on the target, remove it from the VM, or stop the VM.")
            yield Reason("host_file_not_on_target", text % words, remedy)
