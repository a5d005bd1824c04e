"""What endpoints take: one serializer a shape. A field that nobody knows is an error, not silence."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from nodes.hosts.target import HOST_KEY_TYPES
from nodes.inventory.smart_health import Health
from nodes.models import Status
from nodes.models.credential import CredentialKind
from nodes.models.event import Category, Severity, Via
from nodes.models.history import ChangeKind
from nodes.models.labels import LONGEST_VALUE, MOST_LABELS, check_labels
from nodes.models.node import NO_SUCH_TYPE, Connection, NodeType, name_validator
from nodes.models.operation import OperationStatus


class Input(serializers.Serializer):
    """Base: refuses unknown fields and bodies that are no object."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(set(map(str, data)) - set(self.fields))
            if unknown:
                known = ", ".join(self.fields) or "none"
                raise serializers.ValidationError(
                    {name: [_("Unknown field. Known here: %s.") % known] for name in unknown[:20]}
                )
        return super().to_internal_value(data)


class Strict(serializers.CharField):
    """Text that was sent as text: a number or a boolean is refused, not turned into words."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if "\0" in data:
            raise serializers.ValidationError(_("NUL characters are not allowed."))
        return str(super().to_internal_value(data))


class TypeField(serializers.ChoiceField):
    """A type of node; another one is refused with the list."""

    default_error_messages = {"invalid_choice": NO_SUCH_TYPE}

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=NodeType.choices, **options)


class WholeNumber(serializers.IntegerField):
    """A number that was sent as one, and is whole."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str | bool) or (isinstance(data, float) and not data.is_integer()):
            self.fail("invalid")
        return int(super().to_internal_value(data))


class Number(serializers.FloatField):
    """A number that was sent as one."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, str | bool):
            self.fail("invalid")
        return float(super().to_internal_value(data))


class Truth(serializers.BooleanField):
    """``true`` or ``false``, and no word or number that could mean one."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Id(serializers.UUIDField):
    """A UUID that was sent as text."""

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        found: UUID = super().to_internal_value(data)
        return found


class LabelsField(serializers.DictField):
    """Labels: up to 32 keys of letters, digits, dots, slashes and hyphens; values up to 128 characters."""

    child = Strict(max_length=LONGEST_VALUE, allow_blank=True)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        labels: dict[str, str] = super().to_internal_value(data)
        if len(labels) > MOST_LABELS:
            raise serializers.ValidationError(_("At most %d labels.") % MOST_LABELS)
        for key, value in labels.items():
            try:
                check_labels({key: value})
            except ValidationError as error:
                raise serializers.ValidationError({key: error.messages}) from None
        return labels


class Empty(Input):
    """No options."""


class PageInput(Input):
    page = WholeNumber(min_value=1, max_value=100_000, default=1)
    page_size = WholeNumber(min_value=1, max_value=500, default=50)


class NodeInput(Input):
    node = Strict(max_length=63, help_text=_("The node's name or UUID."))


class DescribeInput(NodeInput):
    refresh = Truth(default=False, help_text=_("Take a new inventory first."))
    wait_s = Number(
        min_value=0, max_value=60, default=10, help_text=_("Wait for it this long at most, in seconds.")
    )


def jump_host_field(**options: Any) -> Strict:
    return Strict(
        max_length=63,
        required=False,
        help_text=_("The name of the jump host through which the host is reached."),
        **options,
    )


class ScanHostKeyInput(Input):
    uri = Strict(max_length=400, help_text="qemu+ssh://[user@]host[:port]/system")
    jump_host = jump_host_field()


class CredentialInput(Input):
    """How to authenticate. Write-only: no answer ever carries it."""

    kind = serializers.ChoiceField(choices=CredentialKind.choices)
    user = Strict(max_length=64, required=False)
    private_key = Strict(max_length=32_768, required=False, trim_whitespace=False)
    passphrase = Strict(max_length=1024, required=False, trim_whitespace=False)
    password = Strict(max_length=1024, required=False, trim_whitespace=False)
    sudo_password = Strict(
        max_length=1024,
        required=False,
        allow_blank=True,
        trim_whitespace=False,
        help_text=_(
            "For a user whose sudo asks for one. Left out, a stored one is kept while the host, the user and "
            "the host key stay; an empty one removes it."
        ),
    )
    install_key = Truth(
        required=False, help_text=_("Use the password once to install nodeadmin's own key, then forget it.")
    )

    _FITS: dict[str, set[str]] = {
        CredentialKind.SSH_KEY: {"private_key", "passphrase"},
        CredentialKind.PASSWORD: {"password", "install_key"},
        CredentialKind.NODEADMIN_KEY: set(),
    }
    _NEEDS = {CredentialKind.SSH_KEY: "private_key", CredentialKind.PASSWORD: "password"}

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        kind = data["kind"]
        surplus = set(data) - {"kind", "user", "sudo_password"} - self._FITS[kind]
        if surplus:
            raise serializers.ValidationError(
                {name: _("Does not go with the kind “%s”.") % kind for name in sorted(surplus)}
            )
        if not data.get("sudo_password", "").isprintable():
            raise serializers.ValidationError({"sudo_password": _("A password is one line.")})
        needed = self._NEEDS.get(kind)
        if needed and not data.get(needed):
            raise serializers.ValidationError({needed: _("The kind “%s” needs it.") % kind})
        return data


def host_key_type_field() -> serializers.ChoiceField:
    return serializers.ChoiceField(
        choices=HOST_KEY_TYPES,
        required=False,
        help_text=_(
            "Type of that key, as scan-host-key gives it: the host is then asked for this type alone."
        ),
    )


class AddNodeInput(Input):
    name = Strict(max_length=63, validators=[name_validator])
    uri = Strict(max_length=400)
    type = TypeField(default=NodeType.COMPUTE.value)
    host_key_fingerprint = Strict(max_length=64, required=False, help_text=_("As scan-host-key gives it."))
    host_key_type = host_key_type_field()
    credential = CredentialInput(required=False)
    jump_host = jump_host_field()
    labels = LabelsField(required=False)


class BmcInput(Input):
    """How a BMC is reached. The password is write-only: no answer ever carries it."""

    url = Strict(max_length=400, help_text="https://host[:port]")
    user = Strict(max_length=255, required=False, allow_blank=True)
    password = Strict(max_length=1024, required=False, allow_blank=True, trim_whitespace=False)
    system = Strict(
        max_length=500,
        required=False,
        help_text=_("Its system's path or id, where it has several that cannot be told apart."),
    )
    certificate_fingerprint = Strict(
        max_length=128,
        required=False,
        help_text=_(
            "SHA-256, as scan-bmc-certificate gives it. Without one, an authority must vouch for it."
        ),
    )

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        if bool(data.get("user")) != bool(data.get("password")):
            missing = "password" if data.get("user") else "user"
            raise serializers.ValidationError({missing: _("User and password go together.")})
        return data


class ScanBmcInput(NodeInput):
    url = Strict(max_length=400, help_text="https://host[:port]")


class UpdateNodeInput(NodeInput):
    name = Strict(max_length=63, validators=[name_validator], required=False)
    type = TypeField(required=False)
    labels = LabelsField(required=False)
    notes = Strict(max_length=20_000, allow_blank=True, required=False)
    migration_address = Strict(
        max_length=255,
        allow_blank=True,
        required=False,
        help_text=_("An address that the node's inventory shows, or a name that leads to such alone."),
    )
    migration_address_forced = Truth(
        required=False,
        help_text=_("Take an address that the inventory does not show. Needs the permission to add nodes."),
    )
    uri = Strict(max_length=400, required=False)
    host_key_fingerprint = Strict(max_length=64, required=False)
    host_key_type = host_key_type_field()
    credential = CredentialInput(required=False)
    jump_host = jump_host_field(allow_null=True)
    bmc = BmcInput(required=False, allow_null=True, help_text=_("null removes it."))


class ListNodesInput(PageInput):
    ORDERS = (
        "name", "type", "status", "cpu_used_percent", "memory_used_percent", "memory_total_bytes",
        "cpu_threads", "vm_running_count", "pool_count", "uptime_s", "last_seen_at", "observed_at",
    )  # fmt: skip
    status = serializers.ChoiceField(choices=Status.choices, required=False)
    connection = serializers.ChoiceField(choices=Connection.choices, required=False)
    type = TypeField(required=False)
    name = Strict(max_length=63, required=False, help_text=_("Letters of the name, in order; gaps are fine."))
    labels = LabelsField(required=False)
    jump_host = Strict(
        max_length=63, required=False, help_text=_("Reached through the jump host of this name.")
    )
    order_by = serializers.ChoiceField(
        choices=[sign + name for name in ORDERS for sign in ("", "-")], required=False
    )


class ListChangesInput(PageInput):
    node = Strict(max_length=63, required=False)
    section = Strict(max_length=32, required=False)
    kind = serializers.ChoiceField(choices=ChangeKind.choices, required=False)
    subject = Strict(max_length=255, required=False, help_text=_("An address, name or serial, whole."))
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class SearchDevicesInput(PageInput):
    text = Strict(max_length=200, required=False, help_text=_("Words that all must be in it."))
    kind = serializers.ChoiceField(
        choices=("gpu", "network", "nvme", "storage", "usb-controller", "other", "usb", "disk"),
        required=False,
    )
    vendor = Strict(max_length=255, required=False, help_text=_("A part of its name, or its id."))
    model = Strict(max_length=255, required=False, help_text=_("A part of its name, or its id."))
    driver = Strict(max_length=64, required=False)
    numa_cell = WholeNumber(min_value=0, max_value=4096, required=False)
    free = Truth(required=False, help_text=_("Could be given to a VM now."))
    health = serializers.ChoiceField(choices=[health.value for health in Health], required=False)
    node = Strict(max_length=63, required=False)


class OperationInput(Input):
    operation = Id()


class ListOperationsInput(PageInput):
    node = Strict(max_length=63, required=False)
    status = serializers.ChoiceField(choices=OperationStatus.choices, required=False)
    kind = Strict(max_length=32, required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class ListEventsInput(PageInput):
    category = serializers.ChoiceField(
        choices=Category.choices,
        required=False,
        help_text="`audit`: entries of the audit log (people); `host`: hosts and the monitor.",
    )
    node = Strict(max_length=63, required=False)
    kind = Strict(max_length=48, required=False)
    severity = serializers.ChoiceField(choices=Severity.choices, required=False)
    user = Strict(max_length=150, required=False)
    via = serializers.ChoiceField(choices=Via.choices, required=False)
    token = Strict(max_length=80, required=False)
    target_type = Strict(max_length=32, required=False)
    target = Strict(max_length=255, required=False, help_text="The name of what was changed.")
    source_ip = serializers.IPAddressField(required=False)
    operation = serializers.UUIDField(required=False, help_text="What an operation has done.")
    number_from = WholeNumber(
        min_value=1, max_value=2**63 - 1, required=False, help_text="Entries of the audit log from it on."
    )
    number_to = WholeNumber(
        min_value=1, max_value=2**63 - 1, required=False, help_text="… up to and with it."
    )
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)
