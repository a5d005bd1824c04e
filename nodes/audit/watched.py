"""Which models and fields the audit log watches, and the words of its entries."""

from __future__ import annotations

from dataclasses import dataclass

from django.apps import apps
from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Words = tuple[str, str | Promise]
"""An entry's kind, and its message with ``%(name)s``, ``%(fields)s``, ``%(node)s`` and ``%(kind)s``."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One model.

    All its columns are watched but those that are ``ignored``, so that a column which is added is watched as
    well; of ``secrets`` an entry says only whether they were set, changed or removed. ``node`` leads to the
    node it belongs to, ``target`` (a path, "" for the row itself) to what an entry is about, ``name`` (a path
    from there) to its name. ``paths`` are further values, of rows that a column points to. ``kind`` is the
    method that gives a row's kind in words; ``warns_of_removal`` makes a warning of the entry of a removal.
    """

    model: str
    type: str
    created: Words
    changed: Words
    deleted: Words
    secrets: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    node: str = ""
    target: str = ""
    name: str = ""
    paths: tuple[str, ...] = ()
    kind: str = ""
    warns_of_removal: bool = False


@dataclass(frozen=True, slots=True)
class WatchedList:
    """A many-to-many field of a model; ``path`` leads from a member to its name."""

    model: str
    field: str
    type: str
    path: str
    words: Words


WATCHED = (
    Watched(
        "nodes.User",
        "user",
        ("user_created", _("User “%(name)s” created.")),
        ("user_changed", _("User “%(name)s” changed: %(fields)s.")),
        ("user_deleted", _("User “%(name)s” deleted.")),
        secrets=("password",),
        ignored=("last_login", "date_joined"),
        name="username",
    ),
    Watched(
        "auth.Group",
        "group",
        ("group_created", _("Group “%(name)s” created.")),
        ("group_changed", _("Group “%(name)s” changed: %(fields)s.")),
        ("group_deleted", _("Group “%(name)s” deleted.")),
        name="name",
    ),
    Watched(
        "nodes.NodeUserObjectPermission",
        "user",
        ("access_granted", _("Access to %(node)s granted to user “%(name)s”.")),
        ("access_changed", _("Access to %(node)s of user “%(name)s” changed.")),
        ("access_withdrawn", _("Access to %(node)s revoked from user “%(name)s”.")),
        node="content_object",
        target="user",
        name="username",
        paths=("permission.codename", "user.username"),
    ),
    Watched(
        "nodes.NodeGroupObjectPermission",
        "group",
        ("access_granted", _("Access to %(node)s granted to group “%(name)s”.")),
        ("access_changed", _("Access to %(node)s of group “%(name)s” changed.")),
        ("access_withdrawn", _("Access to %(node)s revoked from group “%(name)s”.")),
        node="content_object",
        target="group",
        name="name",
        paths=("permission.codename", "group.name"),
    ),
    Watched(
        "nodes.ApiToken",
        "token",
        ("token_made", _("API token “%(name)s” created.")),
        ("token_changed", _("API token “%(name)s” changed: %(fields)s.")),
        ("token_deleted", _("API token “%(name)s” deleted.")),
        secrets=("digest",),
        ignored=("created_at", "last_used_at", "last_used_from"),
        name="name",
        paths=("user.username",),
    ),
    Watched(
        "nodes.Role",
        "role",
        ("role_made", _("Role “%(name)s” created.")),
        ("role_changed", _("Role “%(name)s” changed: %(fields)s.")),
        ("role_removed", _("Role “%(name)s” removed.")),
        name="name",
    ),
    Watched(
        "nodes.RoleAssignment",
        "role",
        ("role_assigned", _("Role “%(name)s” granted.")),
        ("role_assignment_changed", _("Assignment of role “%(name)s” changed: %(fields)s.")),
        ("role_revoked", _("Role “%(name)s” revoked.")),
        ignored=("created_at", "granted_by_id"),
        target="role",
        name="name",
        paths=("user.username", "group.name", "node.name"),
    ),
    Watched(
        "nodes.JumpHost",
        "jump_host",
        ("jump_host_added", _("Jump host “%(name)s” added.")),
        ("jump_host_changed", _("Jump host “%(name)s” changed: %(fields)s.")),
        ("jump_host_removed", _("Jump host “%(name)s” removed.")),
        secrets=("secret",),
        ignored=("created_at", "updated_at", "own_key_id", "old_line_left"),
        name="name",
    ),
    Watched(
        "nodes.Credential",
        "credential",
        ("credential_stored", _("Credential of %(node)s stored.")),
        ("credential_changed", _("Credential of %(node)s changed: %(fields)s.")),
        ("credential_removed", _("Credential of %(node)s removed.")),
        secrets=("secret", "sudo_secret"),
        ignored=("updated_at", "own_key_id", "old_line_left"),
        node="node",
        paths=("node.name",),
    ),
    Watched(
        "nodes.Bmc",
        "bmc",
        ("node_bmc_set", _("BMC of %(node)s set.")),
        ("node_bmc_set", _("BMC of %(node)s changed: %(fields)s.")),
        ("node_bmc_removed", _("BMC of %(node)s removed.")),
        secrets=("secret",),
        ignored=("updated_at",),
        node="node",
        paths=("node.name",),
    ),
    Watched(
        "nodes.OwnKeyPair",
        "key_pair",
        ("key_pair_created", _("nodeadmin's own key pair created.")),
        ("key_pair_changed", _("nodeadmin's own key pair changed: %(fields)s.")),
        ("key_pair_removed", _("nodeadmin's own key pair removed.")),
        secrets=("secret",),
        ignored=("created_at",),
    ),
    Watched(
        "mfa.Authenticator",
        "second_factor",
        ("second_factor_added", _("Second factor of user “%(name)s” added: %(kind)s.")),
        ("second_factor_changed", _("Second factor of user “%(name)s” changed: %(kind)s.")),
        ("second_factor_removed", _("Second factor of user “%(name)s” removed: %(kind)s.")),
        warns_of_removal=True,
        kind="get_type_display",
        secrets=("data",),
        ignored=("created_at", "last_used_at"),
        target="user",
        name="username",
        paths=("user.username",),
    ),
    Watched(
        "account.EmailAddress",
        "user",
        ("email_added", _("Email address of user “%(name)s” added.")),
        ("email_changed", _("Email address of user “%(name)s” changed: %(fields)s.")),
        ("email_removed", _("Email address of user “%(name)s” removed.")),
        target="user",
        name="username",
        paths=("user.username",),
    ),
    Watched(
        "socialaccount.SocialAccount",
        "user",
        ("sign_in_linked", _("Sign-in provider linked to user “%(name)s”.")),
        ("sign_in_link_changed", _("Sign-in provider of user “%(name)s” changed: %(fields)s.")),
        ("sign_in_unlinked", _("Sign-in provider unlinked from user “%(name)s”.")),
        ignored=("last_login", "date_joined", "extra_data"),
        target="user",
        name="username",
        paths=("user.username",),
    ),
    Watched(
        "socialaccount.SocialApp",
        "sign_in_provider",
        ("sign_in_provider_added", _("Sign-in provider “%(name)s” added.")),
        ("sign_in_provider_changed", _("Sign-in provider “%(name)s” changed: %(fields)s.")),
        ("sign_in_provider_removed", _("Sign-in provider “%(name)s” removed.")),
        secrets=("secret", "key", "settings"),
        name="name",
    ),
)
LISTS = (
    WatchedList(
        "nodes.User",
        "groups",
        "user",
        "name",
        ("user_groups_changed", _("Groups of user “%(name)s” changed.")),
    ),
    WatchedList(
        "nodes.User",
        "user_permissions",
        "user",
        "codename",
        ("user_permissions_changed", _("Permissions of user “%(name)s” changed.")),
    ),
    WatchedList(
        "auth.Group",
        "permissions",
        "group",
        "codename",
        ("group_permissions_changed", _("Permissions of group “%(name)s” changed.")),
    ),
)


def installed(name: str) -> type[models.Model] | None:
    """The model of that label; None where its app is not installed."""
    try:
        return apps.get_model(name)
    except LookupError:
        return None
