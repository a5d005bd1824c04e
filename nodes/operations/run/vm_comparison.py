"""A VM right before it moves, compared with the one that the confirmed plan was made for."""

from __future__ import annotations

from django.utils.translation import gettext as _

from nodes.errors import PlanChanged, VmStateUnknown
from nodes.hosts import domains
from nodes.hosts.hypervisor import Hypervisor
from nodes.inventory.xmltext import parse_xml
from nodes.operations.plan.vm_shape import VmShape
from nodes.operations.plans import VmDecision


def require_as_planned(source: Hypervisor, vm: VmDecision, source_name: str) -> None:
    """Raise PlanChanged, naming what differs, where the VM's devices, disks, host paths, memory or processor
    are no longer those of the plan; VmStateUnknown where they cannot be read. It is left as it is then.

    A VM that is gone or off is left to whoever asks for that; so is one of a plan by an older version, which
    has nothing to compare with. Raises HostError.
    """
    if not vm.parts:
        return
    xml = domains.live_description(source, vm.vm_uuid)
    if xml is None:
        return
    root = parse_xml(xml)
    if root is None:
        raise VmStateUnknown(
            _("The description of %s could not be read right before its migration.") % vm.vm_name,
            remedy=_("It runs on %s as before. See that libvirt there answers, and plan it again.")
            % source_name,
        )
    differences = VmShape(vm.parts).differences(VmShape.of(root))
    if differences:
        raise PlanChanged(
            _("%(vm)s is not as it was when the plan was made: %(what)s. It runs on %(node)s as before.")
            % {"vm": vm.vm_name, "what": "; ".join(differences), "node": source_name},
            remedy=_("Re-plan, and look at what has changed before you confirm."),
            extra={"changes": list(differences)},
        )
