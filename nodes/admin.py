"""The Django admin: staff look at records here, and change what is only ours to know.

What touches a host goes through the same requests and operations as the API, and the same permissions hold:
superusers and staff with a permission for all nodes see all, others the nodes they were granted.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _
from guardian.admin import GuardedModelAdmin

from nodes.admin_access import OfferedFilters, ReadOnlyAdmin, actor_of, factor_first, use_factor
from nodes.audit.requests import note_denial
from nodes.engine import requests, shared_storage
from nodes.errors import NodeAdminError
from nodes.models import (
    Credential,
    DeclaredSharedStorage,
    Event,
    JumpHost,
    Node,
    Operation,
    OperationStep,
    OwnKeyPair,
    Snapshot,
    SnapshotSection,
)
from nodes.models.credential import CredentialKind
from nodes.models.shared_storage import checked_storage_name
from nodes.permissions import (
    CHANGE,
    GRANT,
    MANAGE_SSH,
    VIEW,
    events_for,
    has_for_all,
    nodes_for,
    operations_for,
    permissions_on,
)


class CredentialForm(forms.ModelForm):
    """Write-only: what is stored is never shown; a blank secret keeps it."""

    user_secret = forms.CharField(
        label=_("New password or private key"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}),
        help_text=_(
            "Leave it blank to keep what is stored. It is checked against the host before it replaces it."
        ),
    )
    passphrase = forms.CharField(
        label=_("Passphrase of the key"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    sudo_password = forms.CharField(
        label=_("sudo password"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("For a user whose sudo asks for one. It goes with a new password, key or kind."),
    )

    class Meta:
        model = Credential
        fields = ("kind",)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        kind, secret = data.get("kind"), data.get("user_secret")
        if kind == CredentialKind.NODEADMIN_KEY and secret:
            self.add_error("user_secret", _("nodeadmin's own key takes no secret."))
        if kind != CredentialKind.NODEADMIN_KEY and not secret and "kind" in self.changed_data:
            self.add_error("user_secret", _("Another kind of credential needs its secret."))
        if data.get("sudo_password") and kind != CredentialKind.NODEADMIN_KEY and not secret:
            self.add_error("sudo_password", _("Give it together with the password or key."))
        if not (data.get("sudo_password") or "").isprintable():
            self.add_error("sudo_password", _("A password is one line."))
        if data.get("passphrase") and (kind != CredentialKind.SSH_KEY or not secret):
            self.add_error("passphrase", _("A passphrase goes with the private key that it opens."))
        return data

    def has_secret_change(self) -> bool:
        return bool(self.changed_data)

    def credential(self) -> dict[str, Any]:
        """The input of requests.update_connection."""
        data = self.cleaned_data
        secret = data.get("user_secret") or ""
        given = {"kind": data["kind"]}
        if data.get("sudo_password"):
            given["sudo_password"] = data["sudo_password"]
        if data["kind"] == CredentialKind.PASSWORD:
            return {**given, "password": secret}
        if data["kind"] == CredentialKind.SSH_KEY:
            return {**given, "private_key": secret, "passphrase": data.get("passphrase") or None}
        return given


class CredentialInline(admin.StackedInline):
    model = Credential
    form = CredentialForm
    can_delete = False
    max_num = 1

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """``obj`` is the node; None asks whether there is anything to ask about at all."""
        user: Any = request.user
        return user.is_authenticated if obj is None else CHANGE in permissions_on(user, obj)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)


@admin.register(Node)
class NodeAdmin(OfferedFilters, GuardedModelAdmin):  # type: ignore[misc]
    """Name, type, labels, notes and migration address can be changed; all else is what the host says."""

    list_display = ("name", "status_shown", "node_type", "connection_reason", "last_seen_at", "observed_at")
    list_filter = ("scheduling", "connection", "node_type")
    search_fields = ("name", "uuid", "uri", "machine_id")
    actions = ("refresh",)
    inlines = (CredentialInline,)
    editable = ("name", "node_type", "labels", "notes", "migration_address", "migration_address_forced")

    @admin.display(description=_("status"))
    def status_shown(self, node: Node) -> str:
        return str(node.status.label)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Node]:
        return nodes_for(request.user).select_related("scheduling_by")  # type: ignore[arg-type]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        hidden = {"id", "snapshot", "joined_by", "identity"}
        names = [field.name for field in Node._meta.concrete_fields if field.name not in hidden]
        return [*self.editable, *(name for name in names if name not in self.editable)]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for name in self.get_fields(request, obj) if name not in self.editable]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_authenticated

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A node is added by an operation that has reached its host, never by a form of columns."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, VIEW, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, CHANGE, obj)

    def _may(self, request: HttpRequest, permission: str, node: Node | None) -> bool:
        user: Any = request.user
        if not user.is_authenticated:
            return False
        return (
            True
            if node is None and permission == VIEW
            else (has_for_all(user, permission) if node is None else permission in permissions_on(user, node))
        )

    def save_model(self, request: HttpRequest, obj: Node, form: Any, change: bool) -> None:
        """Through the same request as the API's, so that it is checked and recorded alike."""
        names = {column: name for name, column in requests.EDITABLE.items()}
        changes = {names[field]: form.cleaned_data[field] for field in form.changed_data if field in names}
        if changes.get("labels", {}) is None:
            changes["labels"] = {}  # an empty box
        requests.update_node(actor_of(request), Node.objects.get(pk=obj.pk), changes)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """A new credential is tried on the host by an operation; only then does it replace the old one."""
        # What the admin's own log of changes reads: nothing was saved here.
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        for inline in formset.forms:
            if isinstance(inline, CredentialForm) and inline.has_secret_change():
                try:
                    requests.update_connection(
                        actor_of(request), form.instance, credential=inline.credential()
                    )
                    self.message_user(request, _("The new credential is being checked against the host."))
                except NodeAdminError as error:
                    self.message_user(request, error.detail(), messages.ERROR)

    @admin.action(description=_("Take a new inventory of the selected nodes"), permissions=["view"])
    def refresh(self, request: HttpRequest, queryset: models.QuerySet[Node]) -> None:
        for node in queryset:
            requests.refresh_node(actor_of(request), node)
        self.message_user(request, _("A new inventory is being taken."))

    def obj_perms_manage_view(self, request: HttpRequest, object_pk: Any) -> Any:
        return self._guarded(request, super().obj_perms_manage_view, object_pk)

    def obj_perms_manage_user_view(self, request: HttpRequest, object_pk: Any, user_id: Any) -> Any:
        return self._guarded(request, super().obj_perms_manage_user_view, object_pk, user_id)

    def obj_perms_manage_group_view(self, request: HttpRequest, object_pk: Any, group_id: Any) -> Any:
        return self._guarded(request, super().obj_perms_manage_group_view, object_pk, group_id)

    def _guarded(self, request: HttpRequest, view: Any, *args: Any) -> Any:
        """Superusers alone grant permissions: who may change a node could else grant themselves its power."""
        if not request.user.is_superuser:
            node = Node.objects.filter(pk=args[0]).first()
            note_denial(request.user, GRANT, node)  # type: ignore[arg-type]
            self.message_user(request, _("Only superusers grant permissions on nodes."), messages.ERROR)
            return HttpResponseRedirect("../")
        if first := factor_first(request):
            return first
        with transaction.atomic():
            return view(request, *args)

    def get_obj_perms_manage_user_form(self, request: HttpRequest) -> Any:
        return _with_factor(request, super().get_obj_perms_manage_user_form(request))

    def get_obj_perms_manage_group_form(self, request: HttpRequest) -> Any:
        return _with_factor(request, super().get_obj_perms_manage_group_form(request))


def _with_factor(request: HttpRequest, form: Any) -> Any:
    """guardian's form, which uses the second factor up when it is valid and is saved, and not before."""

    def save_obj_perms(self: Any) -> None:
        use_factor(request)
        form.save_obj_perms(self)

    return type(form.__name__, (form,), {"save_obj_perms": save_obj_perms})


class SnapshotSectionInline(admin.TabularInline):
    model = SnapshotSection
    fields = readonly_fields = ("slug", "problems", "facts")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


class SharedStorageForm(forms.ModelForm):
    """What is declared stays; its nodes may change."""

    class Meta:
        model = DeclaredSharedStorage
        fields = ("kind", "name", "nodes", "comment")

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        if data.get("kind") and data.get("name"):
            try:
                data["name"] = checked_storage_name(data["kind"], data["name"])
            except ValidationError as error:
                self.add_error("name", error)
        if "nodes" in data and len(data["nodes"]) < 2:
            self.add_error("nodes", _("Storage is shared by two nodes at least."))
        return data


@admin.register(DeclaredSharedStorage)
class SharedStorageAdmin(OfferedFilters):
    """Through the same calls as the API's, so that each is checked and recorded alike."""

    form = SharedStorageForm

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return any(self._may(request, action) for action in ("view", "change"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "add")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "delete")

    def _may(self, request: HttpRequest, action: str) -> bool:
        return shared_storage.may(request.user, action)  # type: ignore[arg-type]

    list_display = ("kind", "name", "declared_by_name", "created_at")
    list_filter = ("kind",)
    filter_horizontal = ("nodes",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("kind", "name", "comment") if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: DeclaredSharedStorage, form: Any, change: bool) -> None:
        data, actor = form.cleaned_data, actor_of(request)
        if change:
            shared_storage.change(actor, DeclaredSharedStorage.objects.get(pk=obj.pk), list(data["nodes"]))
            return
        row = shared_storage.declare(
            actor, kind=data["kind"], name=data["name"], nodes=list(data["nodes"]), comment=data["comment"]
        )
        obj.pk = row.pk

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The call has kept the nodes already."""

    def delete_model(self, request: HttpRequest, obj: DeclaredSharedStorage) -> None:
        shared_storage.withdraw(actor_of(request), obj)

    def delete_queryset(self, request: HttpRequest, queryset: models.QuerySet[DeclaredSharedStorage]) -> None:
        for row in queryset:
            shared_storage.withdraw(actor_of(request), row)


@admin.register(Snapshot)
class SnapshotAdmin(ReadOnlyAdmin):
    list_display = ("node", "observed_at", "duration_s", "changed")
    list_filter = ("changed",)
    exclude = ("document",)
    inlines = (SnapshotSectionInline,)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Snapshot]:
        rows = Snapshot.objects.select_related("node").defer("document")
        user: Any = request.user
        return rows if has_for_all(user, VIEW) else rows.filter(node__in=nodes_for(user))


class StepInline(admin.TabularInline):
    model = OperationStep
    fields = readonly_fields = (
        "position",
        "title",
        "status",
        "progress",
        "message",
        "started_at",
        "finished_at",
    )
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    list_display = ("kind", "node_name", "status", "requested_by_name", "created_at", "finished_at")
    list_filter = ("kind", "status")
    search_fields = ("node_name", "requested_by_name", "id")
    exclude = ("secret",)
    inlines = (StepInline,)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Operation]:
        return operations_for(request.user).select_related("node")  # type: ignore[arg-type]


class SshAdmin(ReadOnlyAdmin):
    """For who may manage SSH; the pages and the API change these rows."""

    exclude = ("secret",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        user: Any = request.user
        return user.is_authenticated and has_for_all(user, MANAGE_SSH)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)


@admin.register(JumpHost)
class JumpHostAdmin(SshAdmin):
    list_display = ("name", "address", "credential_kind", "jump_host", "host_key_fingerprint")
    search_fields = ("name", "host")


@admin.register(OwnKeyPair)
class OwnKeyPairAdmin(SshAdmin):
    list_display = ("fingerprint", "state", "created_at")


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "kind", "severity", "node_name", "user_name", "message")
    list_filter = ("severity", "kind")
    search_fields = ("message", "node_name", "user_name")
    date_hierarchy = "created_at"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Event]:
        return events_for(request.user)  # type: ignore[arg-type]
