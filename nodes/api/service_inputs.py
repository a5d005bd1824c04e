"""What the calls take that put nodes in and out of service."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from nodes.api.inputs import Id, Input, NodeInput, Number, Strict, Truth
from nodes.operations.options import DELETE, DRAIN, OVERRIDES, POLICIES, REBOOT, SHUTDOWN, STOP_TIMEOUT_S

MAX_OVERRIDES = 1000
MAX_TARGETS = 256


class ChosenTarget(Input):
    """What is to happen to one VM, and on which node it is to run."""

    action = serializers.ChoiceField(choices=("migrate",))
    target = Strict(max_length=63, help_text=_("The name or UUID of the node that the VM migrates to."))


class WishField(serializers.Field):
    """One of ``choices``, or an object that names the target as well."""

    def __init__(self, *, choices: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self.word = serializers.ChoiceField(choices=choices)

    def to_internal_value(self, data: Any) -> str | dict[str, str]:
        if not isinstance(data, dict):
            return str(self.word.run_validation(data))
        chosen = ChosenTarget(data=data)
        chosen.is_valid(raise_exception=True)
        return {"action": chosen.validated_data["action"], "target": chosen.validated_data["target"]}


class OverridesField(serializers.DictField):
    """What is to happen to single VMs, by their name or UUID: a word, or
    ``{"action": "migrate", "target": NODE}``, which counts for more than ``targets``."""

    def __init__(self, *, choices: tuple[str, ...], **options: Any) -> None:
        super().__init__(child=WishField(choices=choices), **options)

    def to_internal_value(self, data: Any) -> dict[str, str | dict[str, str]]:
        wishes: dict[str, str | dict[str, str]] = super().to_internal_value(data)
        if len(wishes) > MAX_OVERRIDES:
            raise serializers.ValidationError(_("At most %d VMs.") % MAX_OVERRIDES)
        if any(not name or len(name) > 255 or "\0" in name for name in wishes):
            raise serializers.ValidationError(_("VMs are named by their name or UUID."))
        return wishes


AUTO_CONVERGE = _("Slow a VM down, while it migrates, that changes its memory faster than it is sent.")


def targets_field(**options: Any) -> serializers.ListField:
    """The nodes that VMs may migrate to."""
    return serializers.ListField(
        child=Strict(max_length=63),
        max_length=MAX_TARGETS,
        required=False,
        help_text=_("Names or UUIDs of the nodes that VMs may migrate to; any node where it is left out."),
        **options,
    )


class ConfirmedInput(NodeInput):
    confirm_token = Strict(
        max_length=400_000, required=False, help_text=_("What the call answered with when it was first made.")
    )


class _VmsInput(ConfirmedInput):
    """What happens to the VMs of a node whose host goes down."""

    targets = targets_field()
    stop_timeout_s = Number(
        min_value=1,
        max_value=3600,
        default=STOP_TIMEOUT_S,
        help_text=_("How long a guest may take to shut down."),
    )
    force_stop = Truth(default=False, help_text=_("End a guest that does not shut down in time."))
    auto_converge = Truth(default=False, help_text=AUTO_CONVERGE)
    accept_unknown_vms = Truth(
        default=False, help_text=_("Go on where libvirt is down and nobody can see which VMs run.")
    )
    ignore_inhibitors = Truth(
        default=False,
        help_text=_("Go on in spite of programs that inhibit the shutdown; the plan names them."),
    )
    keep_stopped_on_refusal = Truth(
        default=False,
        help_text=_(
            "Leave stopped VMs off where the power command is not carried out. Otherwise they are started "
            "again."
        ),
    )
    hold_autostart = Truth(
        required=False,
        allow_null=True,
        help_text=_(
            "Switch the autostart of VMs off on the host until the node leaves maintenance; null: where the "
            "node stays in maintenance."
        ),
    )


class RebootNodeInput(_VmsInput):
    vm_policy = serializers.ChoiceField(choices=POLICIES[REBOOT], default=POLICIES[REBOOT][0])
    vm_overrides = OverridesField(choices=OVERRIDES[REBOOT], required=False)
    restart_vms = Truth(default=False, help_text=_("Start stopped VMs again after a successful reboot."))


class ShutdownNodeInput(_VmsInput):
    vm_policy = serializers.ChoiceField(choices=POLICIES[SHUTDOWN], default=POLICIES[SHUTDOWN][0])
    vm_overrides = OverridesField(choices=OVERRIDES[SHUTDOWN], required=False)


class DeleteNodeInput(ConfirmedInput):
    vm_policy = serializers.ChoiceField(choices=POLICIES[DELETE], default=POLICIES[DELETE][0])
    auto_converge = Truth(default=False, help_text=AUTO_CONVERGE)
    vm_overrides = OverridesField(choices=OVERRIDES[DELETE], required=False)
    targets = targets_field()
    force = Truth(default=False, help_text=_("For a host that is gone; the plan names what is lost."))
    remove_key = Truth(
        default=False,
        help_text=_(
            "Remove nodeadmin's own key from authorized_keys on the host. Where that fails, the node is "
            "removed all the same, and `key_left_on_host` of the result says where the key stays."
        ),
    )


class EnableNodeInput(ConfirmedInput):
    return_vms = Truth(default=False, help_text=_("Bring back what the last drain moved away."))
    auto_converge = Truth(required=False, help_text=AUTO_CONVERGE)

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        if "auto_converge" in data and not data["return_vms"]:
            raise serializers.ValidationError({"auto_converge": _("Goes only with return_vms.")})
        return data


class DisableNodeInput(ConfirmedInput):
    reason = Strict(max_length=500, required=False, allow_blank=True)
    drain = Truth(default=False, help_text=_("Empty the node as well."))
    vm_policy = serializers.ChoiceField(
        choices=POLICIES[DRAIN], required=False, help_text=_("With drain; migrate unless given.")
    )
    vm_overrides = OverridesField(choices=OVERRIDES[DRAIN], required=False, help_text=_("With drain."))
    targets = targets_field()
    stop_timeout_s = Number(min_value=1, max_value=3600, required=False, help_text=_("With drain."))
    force_stop = Truth(required=False, help_text=_("With drain."))
    auto_converge = Truth(required=False, help_text=AUTO_CONVERGE)

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        drained = {"vm_policy", "vm_overrides", "targets", "stop_timeout_s", "force_stop", "auto_converge"}
        surplus = drained & set(data)
        if surplus and not data["drain"]:
            raise serializers.ValidationError({name: _("Goes only with drain.") for name in sorted(surplus)})
        return data


class RetryOperationInput(Input):
    operation = Id()
    confirm_token = Strict(
        max_length=400_000, required=False, help_text=_("For operations whose plan is confirmed.")
    )
