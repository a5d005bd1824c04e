"""The options of taking a node in and out of service, under the API's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from nodes.operations.options import STOP_TIMEOUT_S
from nodes.web.forms.fields import control

OVERRIDE = "override-"
MOST_OVERRIDES = 2000
MOST_TARGETS = 256
POLICIES = {
    "refuse": (_("Refuse"), _("Nothing happens while a VM runs here.")),
    "migrate": (_("Move"), _("Running VMs move to other nodes, live.")),
    "stop": (_("Stop"), _("Running VMs are asked to shut down.")),
}


def switch(label: Any, help_text: Any = "") -> forms.BooleanField:
    """A checkbox in our dress."""
    return forms.BooleanField(
        label=label,
        help_text=help_text,
        required=False,
        widget=forms.CheckboxInput(attrs={"class": "form-check-input"}),
    )


def policy(*names: str) -> forms.ChoiceField:
    """What happens to the node's running VMs; the first is what holds where nothing was chosen."""
    return forms.ChoiceField(
        label=_("Running VMs"),
        choices=[(name, POLICIES[name][0]) for name in names],
        initial=names[0],
        required=False,
        widget=forms.RadioSelect,
    )


def timeout() -> forms.IntegerField:
    return forms.IntegerField(
        label=_("Seconds a VM has to shut down"),
        min_value=1,
        max_value=3600,
        initial=int(STOP_TIMEOUT_S),
        required=False,
        widget=control(forms.NumberInput, min=1, max=3600),
    )


FORCE_STOP = (
    _("Cut the power of a VM that does not shut down in time"),
    _("As if its plug were pulled: what it has not written is lost."),
)
ACCEPT_UNKNOWN = (
    _("Go on although the VMs' state cannot be read"),
    _("Whatever runs there and could not be seen dies with the host."),
)

IGNORE_INHIBITORS = (
    _("Ignore programs that inhibit the shutdown"),
    _("The plan names them. What they are doing is interrupted."),
)
KEEP_STOPPED = (
    _("Leave stopped VMs off if the host refuses the command"),
    _("Otherwise they are started again."),
)


AUTO_CONVERGE = (
    _("Slow VMs down that change their memory too fast to migrate"),
    _("Auto-converge: their processors get less time until they have moved. Without it such a VM stays."),
)

HOLDS = {"hold": True, "start": False}


def autostart() -> forms.TypedChoiceField:
    """What becomes of autostart; nothing chosen is what the plan says."""
    return forms.TypedChoiceField(
        label=_("VMs with autostart"),
        choices=[
            ("", _("Held where the node stays in maintenance")),
            ("hold", _("Held until the node leaves maintenance")),
            ("start", _("Start with the host")),
        ],
        coerce=HOLDS.__getitem__,
        empty_value=None,
        required=False,
        help_text=_("Held: switched off on the host, and put back when the node leaves maintenance."),
        widget=forms.Select(attrs={"class": "form-select"}),
    )


def _wish(choice: str) -> str | dict[str, str]:
    """An option of a VM's select as the call takes it: an action, or one with a target after a colon."""
    action, colon, target = choice.partition(":")
    return {"action": action, "target": target} if colon else choice


class ServiceForm(forms.Form):
    """Base. ``options`` are what the call takes; a field that was left out keeps the call's default."""

    def options(self) -> dict[str, Any]:
        found = {name: value for name, value in self.cleaned_data.items() if value not in ("", None)}
        overrides = {uuid: _wish(choice) for uuid, choice in self.choices(self.data).items()}
        targets = self.targets(self.data)
        return (
            found
            | ({"vm_overrides": overrides} if overrides else {})
            | ({"targets": targets} if targets else {})
        )

    @staticmethod
    def targets(data: QueryDict | Mapping[str, Any]) -> list[str]:
        """The UUIDs of the nodes that VMs are limited to, none for any node."""
        found = data.getlist("targets") if isinstance(data, QueryDict) else data.get("targets", [])
        return list(dict.fromkeys(str(value) for value in found if value))[:MOST_TARGETS]

    @staticmethod
    def choices(data: QueryDict | Mapping[str, Any]) -> dict[str, str]:
        """What is wanted for single VMs, by UUID: the selects of the plan's table."""
        found = {
            name.removeprefix(OVERRIDE): str(value)
            for name, value in data.items()
            if name.startswith(OVERRIDE) and value
        }
        return dict(list(found.items())[:MOST_OVERRIDES])

    @classmethod
    def again(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        """The form's initial values for asking once more for what an operation was asked for."""
        return {name: params[name] for name in (*cls.base_fields, "targets") if name in params}


class DisableForm(ServiceForm):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        required=False,
        widget=control(autocomplete="off", placeholder=_("What others should know")),
    )
    drain = switch(_("Empty the node as well"), _("Its VMs move to other nodes. A plan is shown first."))
    vm_policy = policy("migrate", "stop")
    stop_timeout_s = timeout()
    force_stop = switch(*FORCE_STOP)
    auto_converge = switch(*AUTO_CONVERGE)

    def options(self) -> dict[str, Any]:
        found = super().options()
        if found["drain"]:
            return found
        return {"reason": found["reason"]} if "reason" in found else {}

    @classmethod
    def again(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        return super().again(params) | {"drain": True}


class EnableForm(ServiceForm):
    return_vms = switch(
        _("Bring its VMs back"),
        _("Those that left with the last drain and are still where they went to. A plan is shown first."),
    )
    auto_converge = switch(*AUTO_CONVERGE)

    def options(self) -> dict[str, Any]:
        found = super().options()
        return found if found["return_vms"] else {}

    @classmethod
    def again(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        return super().again(params) | {"return_vms": True}


class ShutdownForm(ServiceForm):
    vm_policy = policy("refuse", "migrate", "stop")
    stop_timeout_s = timeout()
    force_stop = switch(*FORCE_STOP)
    auto_converge = switch(*AUTO_CONVERGE)
    accept_unknown_vms = switch(*ACCEPT_UNKNOWN)
    ignore_inhibitors = switch(*IGNORE_INHIBITORS)
    keep_stopped_on_refusal = switch(*KEEP_STOPPED)
    hold_autostart = autostart()

    @classmethod
    def again(cls, params: Mapping[str, Any]) -> dict[str, Any]:
        asked = params.get("hold_autostart")
        words = [name for name, holds in HOLDS.items() if holds is asked]
        return super().again(params) | {"hold_autostart": "".join(words)}


class RebootForm(ShutdownForm):
    restart_vms = switch(
        _("Start stopped VMs again"), _("Those that are stopped for it, once the host is back.")
    )
    field_order = (
        "vm_policy",
        "restart_vms",
        "stop_timeout_s",
        "force_stop",
        "auto_converge",
        "accept_unknown_vms",
        "ignore_inhibitors",
        "keep_stopped_on_refusal",
        "hold_autostart",
    )


class DeleteForm(ServiceForm):
    vm_policy = policy("refuse", "migrate")
    auto_converge = switch(*AUTO_CONVERGE)
    remove_key = switch(
        _("Remove nodeadmin's key from the host"),
        _("Its lines in authorized_keys. Where the host does not answer, the key stays, and that is said."),
    )
    force = switch(
        _("The host is gone for good"),
        _("It is not asked. VMs that may still run there are no longer managed."),
    )


class PowerOnForm(ServiceForm):
    """Nothing to choose."""
