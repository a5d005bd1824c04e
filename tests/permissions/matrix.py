"""Who may do what, written down by hand: callers, endpoints, pages and the admin's addresses.

An endpoint or an address that is not in one of these tables fails tests/permissions/test_matrix.py by its
name. To add one: name what it needs, whether a token for reading only may have it, and whether the server
connects to a host for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

VIEW, LOGS, CHANGE = "view_node", "view_node_logs", "change_node"
MAINTAIN, POWER, DELETE = "maintain_node", "power_node", "delete_node"
ADD, SCAN, GRANT = "add_node", "scan_host", "grant_access"
AUDIT, SSH = "view_audit_log", "manage_ssh"
ALL_ON_NODE = frozenset((VIEW, LOGS, CHANGE, MAINTAIN, POWER, DELETE))
STORAGE = tuple(f"{what}_declaredsharedstorage" for what in ("add", "change", "delete", "view"))
ALL_OF_FLEET = frozenset((ADD, SCAN, GRANT, AUDIT, SSH, *STORAGE))
NOTHING: frozenset[str] = frozenset()

# -- callers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Caller:
    """Somebody as they come. ``on_a`` and ``on_b`` are what they have on the two nodes, ``fleet`` what they
    have that belongs to no node; none of it counts where they are not ``known``."""

    name: str
    on_a: frozenset[str] = NOTHING
    on_b: frozenset[str] = NOTHING
    fleet: frozenset[str] = NOTHING
    known: bool = True
    token: bool = False
    read_only: bool = False

    def on(self, node: str) -> frozenset[str]:
        return {"a": self.on_a, "b": self.on_b, "both": self.on_a & self.on_b}[node]

    @property
    def sees(self) -> str:
        return "".join(node for node in "ab" if VIEW in self.on(node))


READING = frozenset((VIEW, LOGS))
CALLERS = (
    Caller("anonymous", known=False),
    Caller("inactive", known=False),
    Caller("stranger"),
    Caller("viewer by role", frozenset((VIEW,)), frozenset((VIEW,))),
    Caller("operator by grant", frozenset((VIEW, LOGS, MAINTAIN))),
    Caller("changer by group", NOTHING, frozenset((VIEW, CHANGE))),
    Caller("by role on label", ALL_ON_NODE),
    Caller("administrator", ALL_ON_NODE, ALL_ON_NODE, ALL_OF_FLEET),
    Caller("superuser", ALL_ON_NODE, ALL_ON_NODE, ALL_OF_FLEET),
    Caller(
        "read-only token", READING, READING, frozenset((STORAGE[3], "view_audit_log")),
        token=True, read_only=True,
    ),
    Caller("token for a node", frozenset((VIEW, LOGS, POWER)), token=True),
    Caller("token for a label", NOTHING, frozenset((VIEW, CHANGE, DELETE)), token=True),
    Caller("token for all nodes", frozenset((VIEW, MAINTAIN)), frozenset((VIEW, MAINTAIN)),
           frozenset((ADD, SCAN)), token=True),
    Caller("revoked token", known=False, token=True),
    Caller("expired token", known=False, token=True),
    Caller("token from elsewhere", known=False, token=True),
)  # fmt: skip

# -- endpoints -------------------------------------------------------------------------------------

Body = Callable[[Any, str], dict[str, Any]]
Answers = frozenset[int]
OK = frozenset((200,))
STARTED = frozenset((202,))
UNREACHED = frozenset((502, 504))
PLANNED = frozenset((409, 428))
"""The plan is asked for a confirmation, or blocked: the hosts of the matrix answer nothing."""


def of_node(world: Any, node: str) -> dict[str, Any]:
    return {"node": world.name(node)}


def of_nothing(world: Any, node: str) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Call:
    """One way to call an endpoint.

    ``of``: ``node`` (called for each of the two; without ``view_node`` it is unknown), ``both`` (names both
    at once), ``storage`` (a declaration, seen with a node of it) or both of these, ``fleet`` (of no node).
    ``needs`` is the permission, ``also`` one of the fleet that it takes besides, ``either`` one of the fleet
    that does as well. ``login``: of the caller's own login, which a token has none of. ``reads``: open to
    tokens for reading only. ``reaches``: the server connects to a host. ``lists``: the answer names the nodes
    that the caller sees, and no other. ``answers``: for who may.
    """

    needs: str = ""
    of: str = "node"
    body: Body = of_node
    reads: bool = False
    reaches: bool = False
    lists: bool = False
    answers: Answers = OK
    also: str = ""
    either: str = ""

    def expected(self, caller: Caller, node: str) -> Answers:
        if not caller.known:
            return frozenset((401,))
        if caller.read_only and not self.reads:
            return frozenset((403,))
        if self.of == "login":
            return frozenset((400,)) if caller.token else self.answers
        own = caller.on(node) if self.of == "node" else caller.fleet
        if "storage" in self.of and not (caller.sees or STORAGE[2] in caller.fleet):
            return frozenset((400,))  # no such declaration
        if ("node" in self.of or "both" in self.of) and VIEW not in caller.on(node):
            return frozenset((404,))
        if self.needs and self.needs not in own and self.either not in caller.fleet:
            return frozenset((403,))
        if self.also and self.also not in caller.fleet:
            return frozenset((403,))
        return self.answers


def _read(needs: str = VIEW, **more: Any) -> Call:
    return Call(needs, reads=True, **more)


def _with_refresh(world: Any, node: str) -> dict[str, Any]:
    return {"node": world.name(node), "refresh": True, "wait_s": 0}


DESCRIBE = (_read(), Call(VIEW, body=_with_refresh))
PLAN = {"of": "node", "reaches": True, "answers": PLANNED}


def _of(**members: Any) -> Body:
    return lambda world, node: {"node": world.name(node), **members}


def _operation(world: Any, node: str) -> dict[str, Any]:
    return {"operation": str(world.failed[node])}


def _running(world: Any, node: str) -> dict[str, Any]:
    return {"operation": str(world.running[node])}


def _storage(**members: Any) -> Body:
    return lambda world, node: {"kind": "path", "name": "/srv/x", "nodes": world.both, **members}


def _jump_host(**members: Any) -> Body:
    return lambda world, node: {"jump_host": world.jump_host.name, **members}


def _call_for(world: Any, node: str) -> dict[str, Any]:
    return {"call": "add-node"}


ENDPOINTS: dict[str, tuple[Call, ...]] = {
    "scan-host-key": (
        Call(SCAN, "fleet", lambda world, node: {"uri": world.uri}, reaches=True, answers=OK | UNREACHED),
    ),
    "add-node": (
        Call(ADD, "fleet", lambda world, node: {"name": "kvm-new", "uri": "test:///default"},
             answers=STARTED),
    ),
    "list-nodes": (Call("", "fleet", of_nothing, reads=True, lists=True),),
    "describe-node": DESCRIBE,
    "refresh-node": (Call(VIEW, answers=STARTED),),
    "update-node": (
        Call(CHANGE, body=_of(notes="changed")),
        Call(CHANGE, body=lambda world, node: {"node": world.name(node), "credential": {
            "kind": "nodeadmin_key"}}, answers=STARTED),
        Call(CHANGE, body=lambda world, node: {"node": world.name(node), "bmc": {
            "url": world.bmc, "user": "u", "password": "p"}}, reaches=True, answers=UNREACHED),
    ),
    "enable-node": (Call(MAINTAIN), Call(MAINTAIN, body=_of(return_vms=True), **PLAN)),
    "disable-node": (Call(MAINTAIN), Call(MAINTAIN, body=_of(drain=True), **PLAN)),
    "reboot-node": (Call(POWER, body=_of(vm_policy="migrate"), **PLAN),),
    "shutdown-node": (Call(POWER, body=_of(vm_policy="migrate"), **PLAN),),
    "delete-node": (Call(DELETE, body=_of(vm_policy="migrate"), **PLAN),),
    "export-node": (_read(),),
    "declare-shared-storage": (Call(STORAGE[0], "both", _storage()),),
    "update-shared-storage": (
        Call(STORAGE[1], "storage and both",
             lambda world, node: {"declaration": world.declared, "nodes": world.both}),
    ),
    "withdraw-shared-storage": (
        Call(STORAGE[2], "storage", lambda world, node: {"declaration": world.declared}),
    ),
    "list-shared-storage": (Call("", "fleet", of_nothing, reads=True, lists=True),),
    "scan-bmc-certificate": (
        Call(CHANGE, body=lambda world, node: {"node": world.name(node), "url": world.bmc},
             reaches=True, answers=UNREACHED, also=SCAN),
    ),
    "power-on-node": (Call(POWER, answers=STARTED),),
    **{f"describe-node-{slug}": (_read(),) for slug in ("summary", "usb", "net", "disks", "vms", "pools")},
    "describe-node-pci": DESCRIBE,
    "list-operations": (Call("", "fleet", of_nothing, reads=True, lists=True),),
    "describe-operation": (_read(body=_operation),),
    "cancel-operation": (Call(CHANGE, body=_running),),
    "retry-operation": (Call(CHANGE, body=_operation, answers=STARTED),),
    "list-operation-log": (_read(body=_operation),),
    "list-events": (Call("", "fleet", of_nothing, reads=True, lists=True), _read(body=of_node)),
    "describe-node-figures": (_read(),),
    "describe-node-logs": (_read(LOGS, reaches=True, answers=UNREACHED),),
    "list-log-sources": (Call(LOGS, reaches=True, answers=UNREACHED),),
    "describe-log-entry": (
        Call(LOGS, body=_of(entry="s=4ab6;i=1869c;b=01;m=6b8;t=60a2;x=715f"),
             reaches=True, answers=UNREACHED),
    ),
    "list-jump-hosts": (Call(SSH, "fleet", of_nothing, either=ADD),),
    "describe-jump-host": (Call(SSH, "fleet", _jump_host(), either=ADD),),
    "add-jump-host": (
        Call(SSH, "fleet", lambda world, node: {
            "name": "gate", "host": "127.0.0.1", "port": world.trap.port,
            "host_key_fingerprint": world.nodes["a"].host_key_fingerprint,
            "credential": {"kind": "nodeadmin_key", "user": "jump"}}, reaches=True, answers=UNREACHED),
    ),
    "update-jump-host": (Call(SSH, "fleet", _jump_host(name="gate")),),
    "remove-jump-host": (Call(SSH, "fleet", _jump_host()),),
    "list-own-keys": (Call(SSH, "fleet", of_nothing),),
    "describe-own-key": (Call(SSH, "fleet", of_nothing),),
    "rotate-own-key": (Call(SSH, "fleet", of_nothing, answers=PLANNED),),
    "retire-own-key": (Call(SSH, "fleet", of_nothing, answers=frozenset((400,))),),  # there is no old one
    "describe-second-factor": (Call("", "login", _call_for, reads=True),),
    "verify-second-factor": (
        Call("", "login", lambda world, node: {"call": "add-node", "code": "000000"},
             answers=frozenset((403,))),  # they have none
    ),
    "list-inventory-changes": (Call("", "fleet", of_nothing, reads=True, lists=True), _read()),
    "search-devices": (Call("", "fleet", of_nothing, reads=True, lists=True), _read()),
}  # fmt: skip

# -- pages -----------------------------------------------------------------------------------------

Arguments = Callable[[Any, str], list[Any]]
REDIRECTED = frozenset((302,))
DONE = frozenset((200, 204, 302, 422))
"""Whatever a form says to who may send it."""


def node_name(world: Any, node: str) -> list[Any]:
    return [world.name(node)]


def nothing(world: Any, node: str) -> list[Any]:
    return []


@dataclass(frozen=True)
class Page:
    """One address. ``get`` and ``post`` are the permissions that each takes ("" none beyond a login), None
    where it is not served (405). ``of`` as in Call. ``hidden``: to who may not it does not exist."""

    get: str | None = VIEW
    post: str | None = None
    of: str = "node"
    arguments: Arguments = node_name
    data: Callable[[Any, str], dict[str, Any]] = field(default=lambda world, node: {})
    reaches: str = ""
    lists: bool = False
    hidden: bool = False
    answers: Answers = DONE
    also: str = ""
    query: str = ""

    def expected(self, caller: Caller, node: str, method: str) -> Answers:
        if not caller.known or caller.token:
            return REDIRECTED
        needs = self.get if method == "get" else self.post
        if needs is None:
            return frozenset((405,))
        if self.of == "node":
            if VIEW not in caller.on(node):
                return frozenset((404,))
            may = needs in caller.on(node) and (not self.also or self.also in caller.fleet)
            return self.answers if may else frozenset((403,))
        if self.of == "storage" and not (caller.sees or STORAGE[2] in caller.fleet):
            return frozenset((404,))
        if needs and needs not in caller.fleet:
            return frozenset((404 if self.hidden else 403,))
        return self.answers


def _fleet(get: str | None = "", post: str | None = None, **more: Any) -> Page:
    return Page(get, post, "fleet", more.pop("arguments", nothing), **more)


def _form(world: Any, node: str) -> dict[str, Any]:
    kept = {"name": world.name(node), "type": "compute", "labels": world.labels(node)}
    return {**kept, "notes": "n", "migration_address": ""}


def _service(action: str) -> Arguments:
    return lambda world, node: [world.name(node), action]


OPEN = {
    "login", "logout", "favicon", "metrics", "account_login", "account_logout", "account_inactive",
    "oidc-login", "oidc-callback", "openid_connect_login", "openid_connect_callback",
    "socialaccount_login_cancelled", "mfa_login_webauthn",
}  # fmt: skip
"""Addresses with answers of their own for who is not signed in; tested by name."""


def _own(get: str | None = "", post: str | None = "", **more: Any) -> Page:
    """Of one's own account: it takes a login, and shows and changes nobody else's. allauth asks for the
    password or the factor again where it wants to."""
    return _fleet(get, post, **{"answers": frozenset((200, 302, 403, 404, 405, 422)), **more})


def _jump_host_row(world: Any, node: str) -> list[Any]:
    return [world.jump_host.pk]


PAGES: dict[str, tuple[Page, ...]] = {
    "dashboard": (_fleet(lists=True),),
    "search": (_fleet(),),
    "running": (_fleet(),),
    "node-add": (_fleet(ADD, ADD),),
    "node-add-check": (_fleet(None, ADD),),
    "node-add-scan": (_fleet(None, ADD, data=lambda world, node: {"uri": world.uri}, reaches="post"),),
    "node-add-progress": (Page(arguments=lambda world, node: [world.failed[node]]),),
    "node-bulk": (
        _fleet(None, "", arguments=lambda world, node: ["refresh"],
               data=lambda world, node: {"node": world.uuids}),
        _fleet(None, "", arguments=lambda world, node: ["disable"],
               data=lambda world, node: {"node": world.uuids, "step": "go"}),
    ),
    "node-list": (_fleet(lists=True),),
    "node-detail": (Page(),),
    "node-refresh": (Page(None, VIEW),),
    "node-observed": (Page(),),
    "node-operations": (Page(),),
    "node-events": (Page(),),
    "node-changes": (Page(),),
    "node-disk-history": (Page(),),
    "node-logs": (Page(LOGS),),
    "node-logs-download": (Page(LOGS, reaches="get", answers=UNREACHED),),
    "node-service": (
        Page(MAINTAIN, MAINTAIN, arguments=_service("enable")),
        Page(MAINTAIN, MAINTAIN, arguments=_service("disable")),
        Page(POWER, POWER, arguments=_service("reboot")),
        Page(POWER, POWER, arguments=_service("shutdown")),
        Page(DELETE, DELETE, arguments=_service("delete")),
        Page(POWER, POWER, arguments=_service("power-on")),
    ),
    "node-settings": (Page(VIEW, CHANGE, data=_form),),
    "node-connection": (Page(CHANGE, CHANGE),),
    "node-bmc": (Page(CHANGE, CHANGE),),
    "node-bmc-scan": (
        Page(None, CHANGE, data=lambda world, node: {"url": world.bmc}, reaches="post",
             also=SCAN),
    ),
    "node-bmc-remove": (Page(None, CHANGE),),
    "node-section": (Page(arguments=lambda world, node: [world.name(node), "pci"]),),
    "device-search": (_fleet(lists=True),),
    "operation-list": (_fleet(lists=True),),
    "operation-detail": (Page(arguments=lambda world, node: [world.failed[node]]),),
    "operation-cancel": (Page(None, CHANGE, arguments=lambda world, node: [world.running[node]]),),
    "operation-retry": (Page(None, CHANGE, arguments=lambda world, node: [world.failed[node]]),),
    "event-list": (_fleet(lists=True),),
    "settings": (_fleet(),),
    "shared-storage": (_fleet("", ""),),
    "shared-storage-withdraw": (
        Page(None, STORAGE[2], "storage", lambda world, node: [world.declared]),
    ),
    "token-list": (_fleet("", ""),),
    # Of another user: for who may not grant there is none.
    "token-revoke": (
        _fleet(None, GRANT, arguments=lambda world, node: [world.others_token], hidden=True),
    ),
    "audit-log": (_fleet(lists=False),),
    "jump-hosts": (_fleet(SSH),),
    "jump-host-add": (_fleet(SSH, SSH),),
    "jump-host-scan": (
        _fleet(None, SSH, data=lambda world, node: {"host": "127.0.0.1", "port": world.trap.port},
               reaches="post"),
    ),
    "jump-host": (_fleet(SSH, SSH, arguments=_jump_host_row),),
    "jump-host-remove": (_fleet(None, SSH, arguments=_jump_host_row),),
    "own-key": (_fleet(SSH),),
    "own-key-rotate": (_fleet(None, SSH),),
    "own-key-retire": (_fleet(None, SSH, answers=frozenset((400, *DONE))),),
    "account": (_own(),),
    "account_change_password": (_own(),),
    "account_reauthenticate": (_own(),),
    "usersessions_list": (_own("", None),),
    # Of another user: there is none.
    "session-end": (
        _own(None, "", arguments=lambda world, node: [world.others_session], answers=frozenset((404,))),
    ),
    "sessions-end-others": (_own(None, ""),),
    "factor-confirm": (_own(query="?for=grant&next=//elsewhere.example/"),),
    "factor-challenge": (_own(None, "", data=lambda world, node: {"about": "grant"}),),
    "factor-passkeys": (_own(),),
    **{f"mfa_{name}": (_own(),) for name in (
        "index", "authenticate", "reauthenticate", "activate_totp", "deactivate_totp", "view_recovery_codes",
        "generate_recovery_codes", "download_recovery_codes", "list_webauthn", "add_webauthn",
        "reauthenticate_webauthn",
    )},
    **{f"mfa_{name}_webauthn": (_own(arguments=lambda world, node: [world.others_factor]),)
       for name in ("remove", "edit")},
}  # fmt: skip

# -- the admin -------------------------------------------------------------------------------------

EVERYBODY, STAFF, GRANTERS, SUPERUSERS, NOBODY, DECLARERS, KEEPERS, NODE = (
    "everybody", "staff", "granters", "superusers", "nobody", "declarers", "keepers", "node",
)  # fmt: skip


def _rows(model: str, look: str, add: str, delete: str, *, history: str = "") -> dict[str, str]:
    return {
        f"{model}_changelist": look if look != NODE else STAFF,
        f"{model}_change": look,
        f"{model}_history": history or look,
        f"{model}_add": add,
        f"{model}_delete": delete,
    }


ADMIN = {
    "login": EVERYBODY,
    "logout": EVERYBODY,
    **dict.fromkeys(("index", "password_change", "password_change_done", "jsi18n", "app_list"), STAFF),
    "autocomplete": NOBODY,
    **_rows("nodes_node", NODE, NOBODY, NOBODY),
    "nodes_node_permissions": SUPERUSERS,
    "nodes_node_permissions_manage_user": SUPERUSERS,
    "nodes_node_permissions_manage_group": SUPERUSERS,
    **_rows("nodes_snapshot", NODE, NOBODY, NOBODY),
    **_rows("nodes_operation", NODE, NOBODY, NOBODY),
    **_rows("nodes_event", NODE, NOBODY, NOBODY),
    **_rows("nodes_apitoken", GRANTERS, NOBODY, NOBODY) | {"nodes_apitoken_changelist": STAFF},
    **_rows("nodes_declaredsharedstorage", DECLARERS, DECLARERS, DECLARERS),
    **_rows("nodes_role", GRANTERS, GRANTERS, GRANTERS),
    **_rows("nodes_roleassignment", GRANTERS, GRANTERS, GRANTERS),
    **_rows("nodes_user", SUPERUSERS, SUPERUSERS, SUPERUSERS),
    "auth_user_password_change": SUPERUSERS,
    **_rows("auth_group", SUPERUSERS, SUPERUSERS, SUPERUSERS),
    **_rows("nodes_jumphost", KEEPERS, NOBODY, NOBODY),
    **_rows("nodes_ownkeypair", KEEPERS, NOBODY, NOBODY),
    **_rows("mfa_authenticator", GRANTERS, NOBODY, GRANTERS) | {"mfa_authenticator_changelist": STAFF},
    **_rows("usersessions_usersession", GRANTERS, NOBODY, NOBODY)
    | {"usersessions_usersession_changelist": STAFF},
    **_rows("axes_accessattempt", SUPERUSERS, NOBODY, SUPERUSERS),
    **_rows("axes_accesslog", SUPERUSERS, NOBODY, SUPERUSERS),
    **_rows("axes_accessfailurelog", SUPERUSERS, NOBODY, SUPERUSERS),
}
