"""The only bridge from a Node row to a host: who reads credentials, and who connects.

Everything that reaches out asks here for a target or a connection; nothing else opens a sealed secret. It is
opened where the target is made of it, for that target: one that was stored for another address, user or host
key does not open, whatever led here (a call, a retry, a resumed operation, the monitor).
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from nodes import credential_use
from nodes.errors import AuthenticationFailed, HostKeyMismatch, InvalidInput, NodeAdminError, UnknownNode
from nodes.hosts.authorized_keys import KeyOptions, line_of, options_for
from nodes.hosts.bmc_target import BmcAddress, BmcTarget, parse_bmc_url
from nodes.hosts.connection import ConnectionPool, HostConnection
from nodes.hosts.connection import connect as open_connection
from nodes.hosts.deadlines import DEFAULT, Clock, Deadlines
from nodes.hosts.greeting import greet_through
from nodes.hosts.host_key_scan import HostKeyScan, find_host_key
from nodes.hosts.jump import jump_hosts
from nodes.hosts.keypair import generate_key_pair
from nodes.hosts.libvirt_facts import LastGood
from nodes.hosts.network_rules import NetworkRules, parse_networks
from nodes.hosts.scan_answer import ssh_told_alike
from nodes.hosts.target import Credential as HostCredential
from nodes.hosts.target import HostKey, HostTarget, JumpTarget, PasswordCredential, SshKeyCredential
from nodes.hosts.uri import NodeUri, parse_uri
from nodes.models import Bmc, Credential, JumpHost, KeyState, Node, Operation, OwnKeyPair
from nodes.models.credential import CredentialKind
from nodes.models.credential_use import SecretKind
from nodes.models.node import NodeQuerySet
from nodes.models.sealed import Binding, BoundSecret, SecretFor

DEFAULT_USER = "root"

_pool: ConnectionPool | None = None
_last_good: dict[str, LastGood] = {}
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Login:
    """How a host is entered: an address, a credential and the host key that was confirmed.

    ``secret`` stays sealed until a target is made of it.
    """

    uri: NodeUri
    kind: str = ""
    secret: BoundSecret | None = None
    host_key: HostKey | None = None
    key: str = ""
    jump_host: JumpHost | None = None
    own_key: int | None = None
    """The key pair of nodeadmin that the host is known to let in, by its number."""
    sudo: BoundSecret | None = None
    """What has the ``sudo_password``, sealed; None where the user's sudo asks for none."""
    keeps_secret: bool = False
    keeps_sudo: bool = False
    """Whether ``secret`` and ``sudo`` are those that are stored for the node already."""
    node: Node | None = field(default=None, compare=False, repr=False)
    """Whose login it is; None for a host that is no node yet."""

    @classmethod
    def of_node(cls, node: Node) -> Login:
        """The node's stored login, as it is now.

        Address, host key and credential come out of one query: of an update between two of them, the new
        credential would go to the old host. Raises UnknownNode where the node has been removed meanwhile.
        """
        row = _with_login().filter(pk=node.pk).first()
        if row is None:
            raise _removed()
        return cls._of_row(row)

    @classmethod
    def _of_row(cls, row: Node) -> Login:
        credential: Credential | None = getattr(row, "credential", None)
        return cls(
            uri=read_uri(row.uri),
            kind=credential.kind if credential else "",
            secret=BoundSecret.of(credential.secret) if credential else None,
            host_key=pinned_host_key(row),
            key=str(row.uuid),
            jump_host=row.jump_host,
            own_key=credential.own_key_id if credential else None,
            sudo=BoundSecret.of(credential.sudo_secret) if credential else None,
            node=row,
        )

    @classmethod
    def from_operation(cls, operation: Operation, node: Node | None = None) -> Login:
        """The login that an operation was asked to try; what it leaves open is the node's own.

        An address without SSH has neither credential nor host key, whatever the node had before.
        """
        params = operation.params
        old = cls.of_node(node) if node is not None else None
        uri = params.get("uri") or (old.uri.canonical() if old else "")
        if read_uri(uri).transport != "ssh":
            return cls(read_uri(uri))
        given = params.get("credential_kind")
        kind = given or (old.kind if old else "")
        secret = BoundSecret.of(operation.secret) if given else (old.secret if old else None)
        jump_host = old.jump_host if old else None
        if "jump_host" in params:
            jump_host = _jump_host_of(params["jump_host"])
        if given:
            sudo = cls._sudo_of(operation, old)
        else:
            sudo = old.sudo if old else None
        own_key = old.own_key if old is not None and kind == old.kind else None
        return cls(
            read_uri(uri),
            kind,
            secret,
            old.host_key if old else None,
            jump_host=jump_host,
            own_key=own_key,
            sudo=sudo,
            keeps_secret=not given,
            keeps_sudo=old is not None and sudo is not None and sudo == old.sudo,
            node=node,
        )

    @staticmethod
    def _sudo_of(operation: Operation, old: Login | None) -> BoundSecret | None:
        """The sudo password that goes with a new credential: the one given with it, or else the stored one,
        as long as host, user and host key stay what they were."""
        params = operation.params
        if params.get("has_sudo_password"):
            return BoundSecret.of(operation.secret)
        if old is None or params.get("forget_sudo_password"):
            return None
        proof = params.get("fingerprint") or old.binding.proof
        return old.sudo if binding_of(read_uri(params["uri"]), proof) == old.binding else None

    @property
    def binding(self) -> Binding:
        """What a secret must have been stored for, to open for this login."""
        return binding_of(self.uri, self.host_key.fingerprint if self.host_key is not None else "")

    def secrets_to_keep(self) -> dict[str, SecretFor | None]:
        """What is stored of the secrets, by the Credential's fields. One that is stored already is left out:
        sealed anew, it would look like another one. Raises CredentialNotForTarget where it is for another
        target."""
        found: dict[str, SecretFor | None] = {}
        if not self.keeps_secret:
            found["secret"] = self._secret_to_keep()
        elif self.secret is not None:
            self.secret.check(self.binding)
        if not self.keeps_sudo:
            found["sudo_secret"] = self.sudo_to_keep()
        elif self.sudo is not None:
            self.sudo.check(self.binding)
        return found

    def _secret_to_keep(self) -> SecretFor | None:
        """Nothing for nodeadmin's own key, which has a row of its own."""
        if self.kind == CredentialKind.NODEADMIN_KEY or self.secret is None:
            return None
        secret = self.secret.open_for(self.binding)
        return SecretFor(
            self.binding, {name: value for name, value in secret.items() if name != "sudo_password"}
        )

    def sudo_to_keep(self) -> SecretFor | None:
        """The sudo password as it is stored, where there is one."""
        password = self._sudo_password()
        return None if password is None else SecretFor(self.binding, {"sudo_password": password})

    def _sudo_password(self) -> str | None:
        if self.sudo is None or self.uri.transport != "ssh":
            return None
        password: str = self.sudo.open_for(self.binding)["sudo_password"]
        return password

    def credential(self, keys: OwnKeys | None = None) -> HostCredential | None:
        """The secret in the form that ``hosts`` takes; ``keys`` are nodeadmin's own, where the caller has
        them already. Raises CredentialNotForTarget, CredentialUnreadable."""
        return _credential(self.kind, self.secret, self.binding, self.own_key, keys)

    def target(self, keys: OwnKeys | None = None) -> HostTarget:
        """The target to connect to; ``keys`` and errors as in :meth:`credential`. It is noted as a use."""
        made = self._target(keys or OwnKeys())
        if made.credential is not None:
            owners = [self.node] if self.node is not None else []
            credential_use.note(owners, self.kind)
            if made.sudo_password is not None:
                credential_use.note(owners, SecretKind.SUDO_PASSWORD)
        return made

    def _target(self, keys: OwnKeys) -> HostTarget:
        return HostTarget(
            key=self.key,
            transport=self.uri.transport,
            host=self.uri.host,
            port=self.uri.port,
            user=self.uri.user or DEFAULT_USER,
            credential=self.credential(keys) if self.uri.transport == "ssh" else None,
            host_key=self.host_key,
            libvirt_uri=self.uri.libvirt_uri,
            sudo_password=self._sudo_password(),
            jump=self._jump(keys),
            rules=network_rules(),
        )

    def jump(self) -> JumpTarget | None:
        """The jump host that the host is reached through, None where it is reached directly."""
        return self._jump(OwnKeys())

    def _jump(self, keys: OwnKeys) -> JumpTarget | None:
        if self.jump_host is None or self.uri.transport != "ssh":
            return None
        return jump_target(self.jump_host, keys, [self.node] if self.node is not None else [])


def _removed() -> UnknownNode:
    return UnknownNode(_("The node has been removed."), field="node")


def _with_login() -> NodeQuerySet:
    """Nodes with all that it takes to enter their hosts, in one query."""
    return Node.objects.select_related("credential", "jump_host__jump_host__jump_host")


def _jump_host_of(number: int | None) -> JumpHost | None:
    """Raises InvalidInput where the jump host has been removed since the operation was asked for."""
    if number is None:
        return None
    row = JumpHost.objects.select_related("jump_host__jump_host").filter(pk=number).first()
    if row is None:
        raise InvalidInput(_("The jump host has been removed."), field="jump_host")
    return row


def lock_jump_host(row: JumpHost | None) -> None:
    """Within a transaction: nobody removes the jump host before it ends. Raises InvalidInput where somebody
    has."""
    if row is not None and not JumpHost.objects.select_for_update().filter(pk=row.pk).exists():
        raise InvalidInput(_("The jump host has been removed."), field="jump_host")


class OwnKeys:
    """nodeadmin's own private keys by number, read at the first need and then kept for as long as this."""

    def __init__(self) -> None:
        self._texts: dict[int, str] | None = None
        self._current = 0

    def credential(self, number: int | None) -> SshKeyCredential:
        """The key pair ``number`` first, or the current one where that is unknown or gone; then the other."""
        if self._texts is None:
            rows = list(OwnKeyPair.objects.order_by("-id")) or [own_key_pair()]
            self._current = next((row.pk for row in rows if row.state == KeyState.CURRENT), rows[0].pk)
            self._texts = {row.pk: _private_key(row) for row in rows}
        first = number if number in self._texts else self._current
        others = tuple(text for key, text in self._texts.items() if key != first)
        return SshKeyCredential(self._texts[first or self._current], alternatives=others)


def _private_key(row: OwnKeyPair) -> str:
    sealed: Any = row.secret
    key: str = sealed.open()["private_key"]
    return key


def _credential(
    kind: str,
    stored: Any,
    binding: Binding,
    own_key: int | None,
    keys: OwnKeys | None,
) -> HostCredential | None:
    """The one place where a credential for SSH is opened. ``stored`` is a row's field (BoundSecret), or what
    is to become of one (SecretFor)."""
    if kind == CredentialKind.NODEADMIN_KEY:
        return (keys or OwnKeys()).credential(own_key)
    if stored is None:
        return None  # forgotten meanwhile: the login says so
    secret = stored.open_for(binding)
    if kind == CredentialKind.PASSWORD and "password" in secret:
        return PasswordCredential(secret["password"])
    if kind == CredentialKind.SSH_KEY and "private_key" in secret:
        return SshKeyCredential(secret["private_key"], secret.get("passphrase"))
    return None


def jump_target(row: JumpHost, keys: OwnKeys | None = None, nodes: Collection[Node] = ()) -> JumpTarget:
    """How a jump host is entered, with those in front of it, on the way to the nodes. It is noted as a use.
    Raises CredentialNotForTarget, CredentialUnreadable."""
    keys = keys or OwnKeys()
    found: JumpTarget | None = None
    for link in reversed(row.chain()):
        found = JumpTarget(
            key=link.key,
            name=link.name,
            host=link.host,
            port=link.port,
            user=link.user,
            credential=_credential(
                link.credential_kind, link.secret, binding_of_jump_host(link), link.own_key_id, keys
            ),
            host_key=HostKey.parse(link.host_key),
            jump=found,
            rules=network_rules(),
        )
        if found.credential is not None:
            credential_use.note_jump_host(link, nodes)
    assert found is not None  # noqa: S101 - a chain has its own row at least
    return found


def binding_of_jump_host(row: JumpHost) -> Binding:
    """What the secret of a jump host is for: the row as it is, and the very key that it must show.

    The fingerprint beside the key is for people to read; the two may differ, and a target is made of the key.
    """
    proof = HostKey.parse(row.host_key).fingerprint
    return Binding("ssh", row.host, row.port, row.user or DEFAULT_USER, proof)


def binding_of(uri: NodeUri, fingerprint: str) -> Binding:
    """What a secret is for that was given with this address and the host key of this fingerprint."""
    if uri.transport != "ssh":
        return Binding(uri.transport)
    return Binding("ssh", uri.host, uri.port, uri.user or DEFAULT_USER, fingerprint)


def binding_of_node(node: Node) -> Binding:
    """What a secret is for that is stored for the node as it is."""
    pinned = pinned_host_key(node)
    return binding_of(read_uri(node.uri), pinned.fingerprint if pinned is not None else "")


def bmc_binding(address: BmcAddress, user: str, certificate_fingerprint: str) -> Binding:
    """What a BMC's password is for. Without a pinned certificate an authority vouches for the name."""
    proof = f"sha256:{certificate_fingerprint}" if certificate_fingerprint else f"ca:{address.host}"
    return Binding("redfish", address.host, address.port, user, proof)


def pinned_host_key(node: Node) -> HostKey | None:
    """The key that the node's host must show; None for local and test nodes."""
    return HostKey.parse(node.host_key) if node.host_key else None


def confirmed_fingerprint(row: Node | JumpHost) -> str:
    """The fingerprint of the key that the row's host must show, for what is given without one; "" where there
    is none. Also where the row shows people another fingerprint than that of its key: which of the two
    somebody has compared is not known, and a new secret would go to the other one."""
    try:
        pinned = HostKey.parse(row.host_key)
    except ValueError:
        return ""
    return pinned.fingerprint if pinned.fingerprint == row.host_key_fingerprint else ""


def pin(node: Node, key: HostKey | None) -> None:
    """Set the host key of ``node`` (unsaved)."""
    node.host_key = key.to_text() if key is not None else ""
    node.host_key_fingerprint = key.fingerprint if key is not None else ""


def own_key_pair() -> OwnKeyPair:
    """nodeadmin's current key pair, made at its first use; of two that make it at once, one wins."""
    found = OwnKeyPair.objects.filter(state=KeyState.CURRENT).first()
    if found is not None:
        return found
    pair = generate_key_pair("nodeadmin")
    defaults = {"id": 1, "public_key": pair.public_key, "secret": {"private_key": pair.private_key}}
    made, _new = OwnKeyPair.objects.get_or_create(state=KeyState.CURRENT, defaults=defaults)
    return OwnKeyPair.objects.get(pk=made.pk)  # with the secret as it is stored


def with_own_key(login: Login, connection: HostConnection) -> Login:
    """The login with the key pair of nodeadmin that opened ``connection``, where one did."""
    row = own_key_of(connection) if login.kind == CredentialKind.NODEADMIN_KEY else None
    return replace(login, own_key=row.pk if row is not None else None)


def own_key_of(connection: HostConnection) -> OwnKeyPair | None:
    """Which of nodeadmin's key pairs opened the connection; None where another credential did."""
    used = connection.login_key
    if used is None:
        return None
    return next((row for row in OwnKeyPair.objects.all() if same_key(row, used)), None)


def by_own_key(target: HostTarget, pair: OwnKeyPair) -> HostTarget:
    """The same host, entered with this key pair of nodeadmin and with no other."""
    return replace(target, credential=SshKeyCredential(_private_key(pair)))


def pinned_target(login: Login, host_key: str) -> HostTarget:
    """The target of a login whose host has shown ``host_key`` meanwhile; "" keeps what the login has."""
    return replace(login, host_key=HostKey.parse(host_key) if host_key else login.host_key).target()


def key_options() -> KeyOptions:
    """What the lines of nodeadmin's key allow, by the settings."""
    return KeyOptions(sources=tuple(settings.NODEADMIN_KEY_FROM))


def key_line(pair: OwnKeyPair) -> str:
    """The line for authorized_keys that lets the pair in, for OpenSSH 7.8 and newer."""
    return line_of(pair.public_key, options_for(key_options(), "SSH-2.0-OpenSSH_9.0"))


def with_sources_hint(error: AuthenticationFailed) -> AuthenticationFailed:
    """The error of a key that was refused right after it was written; NODEADMIN_KEY_FROM may be the cause."""
    if settings.NODEADMIN_KEY_FROM:
        named = ", ".join(settings.NODEADMIN_KEY_FROM)
        error.message += " " + _("By NODEADMIN_KEY_FROM it counts from %s alone.") % named
        error.remedy = _("List the address that the host sees: this machine's, or its jump host's.")
    error.message += " " + _("authorized_keys was put back as it was.")
    return error


def same_key(row: OwnKeyPair, key: HostKey) -> bool:
    return HostKey.parse(row.public_key).blob == key.blob


def network_rules() -> NetworkRules:
    """Which addresses may be connected to, by the settings. Raises ValueError where they are malformed, for
    which the server does not start (checks.py)."""
    return _rules_of(tuple(settings.NODEADMIN_ALLOWED_NETWORKS), tuple(settings.NODEADMIN_DENIED_NETWORKS))


@lru_cache(maxsize=8)
def _rules_of(allowed: tuple[str, ...], denied: tuple[str, ...]) -> NetworkRules:
    return NetworkRules(parse_networks(allowed), parse_networks(denied))


def read_uri(text: str) -> NodeUri:
    """The address, checked by what the settings allow. Raises InvalidUri."""
    return parse_uri(text, allow_test=settings.NODEADMIN_ALLOW_TEST_URI)


def stored_uri(text: str) -> NodeUri:
    """The address of a row, which was checked when it was stored."""
    return parse_uri(text, allow_test=True)


def with_user(uri: NodeUri, user: str) -> NodeUri:
    """The address with the credential's user in it; root where neither names one.

    Raises InvalidInput where the two name different users.
    """
    if uri.transport != "ssh":
        return uri
    if user and uri.user and user != uri.user:
        raise InvalidInput(
            _("The address names the user “%(a)s”, the credential “%(b)s”.") % {"a": uri.user, "b": user},
            remedy=_("Name the user in one place."),
            field="credential.user",
        )
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    return read_uri(f"qemu+ssh://{user or uri.user or DEFAULT_USER}@{host}:{uri.port}{uri.path}")


def target_for(node: Node) -> HostTarget:
    """The target of a node, by what the database says now. Raises UnknownNode, CredentialNotForTarget,
    CredentialUnreadable."""
    return Login.of_node(node).target()


def targets_for(nodes: Collection[Node]) -> dict[int, HostTarget | NodeAdminError]:
    """The targets of nodes by primary key, or why there is none (UnknownNode, CredentialNotForTarget,
    CredentialUnreadable), in two queries however many there are."""
    rows = {row.pk: row for row in _with_login().filter(pk__in=_keys(nodes))}
    own_keys = OwnKeys()
    found: dict[int, HostTarget | NodeAdminError] = {}
    opened: dict[str, list[Node]] = {}
    for key in _keys(nodes):
        try:
            if key not in rows:
                raise _removed()
            login = Login._of_row(rows[key])
            found[key] = made = login._target(own_keys)
            if made.credential is not None:
                opened.setdefault(login.kind, []).append(rows[key])
                if made.sudo_password is not None:
                    opened.setdefault(SecretKind.SUDO_PASSWORD, []).append(rows[key])
        except NodeAdminError as error:
            found[key] = error
    for kind, owners in opened.items():
        credential_use.note(owners, kind)
    return found


def _keys(nodes: Collection[Node]) -> list[int]:
    return [node.pk for node in nodes]


def bmc_target(node: Node) -> BmcTarget | None:
    """How the node's BMC is reached, by what the database says now; None where it has none.

    Raises CredentialNotForTarget, CredentialUnreadable.
    """
    row = Bmc.objects.filter(node=node.pk).first()
    if row is None:
        return None
    address, sealed = parse_bmc_url(row.url), BoundSecret.of(row.secret)
    binding = bmc_binding(address, row.user, row.certificate_fingerprint)
    if sealed is not None:
        credential_use.note([node], SecretKind.BMC_PASSWORD)
    return BmcTarget(
        address=address,
        user=row.user,
        password=sealed.open_for(binding)["password"] if sealed is not None else "",
        fingerprint=row.certificate_fingerprint,
        system_path=row.system_path,
        rules=network_rules(),
    )


def pool() -> ConnectionPool:
    """This process's connections, one a host, made at the first use."""
    global _pool
    with _guard:
        if _pool is None:
            _pool = ConnectionPool()
        return _pool


def close_pool() -> None:
    """Close all connections: at the server's end, and in tests."""
    global _pool
    with _guard:
        old, _pool = _pool, None
    if old is not None:
        old.close()
    jump_hosts().close()


def greet(node: Node, timeout_s: float, *, connect_s: float) -> None:
    """Wait for the greeting of a host behind a jump host. Raises HostUnreachable, HostTimeout, JumpHostError,
    UnknownNode, CredentialUnreadable."""
    login = Login.of_node(node)
    jump = login.jump()
    if jump is not None:
        greet_through(jump, login.uri.host, login.uri.port, timeout_s, connect_s)


def drop_jump_host(row: JumpHost) -> None:
    """Close every connection to the jump host, and all that runs over them."""
    jump_hosts().drop(row.key)


def try_jump_host(
    row: JumpHost, fingerprint: str, key_type: str = "", *, timeout_s: float
) -> tuple[HostKey, OwnKeyPair | None]:
    """Reach the jump host of an unsaved row and log in; gives the host key with this ``fingerprint``, and the
    key pair of nodeadmin that it let in, None for other credentials.

    The credential is sent only once the host has proved that key. What is told of an address without an SSH
    server is the same for all of them, and comes when the time is over. Raises HostKeyMismatch, HostError.
    """
    clock = Clock(timeout_s)
    front = jump_target(row.jump_host) if row.jump_host is not None else None
    with ssh_told_alike(row.host, row.port, clock, field="host"):
        scan = find_host_key(
            row.host,
            row.port,
            fingerprint,
            rules=network_rules(),
            key_type=key_type,
            timeout_s=clock.left * 0.6,
            jump=front,
        )
    pinned = chosen_key(scan, fingerprint, key_type)
    binding = Binding("ssh", row.host, row.port, row.user or DEFAULT_USER, pinned.fingerprint)
    target = HostTarget(
        key="",
        transport="ssh",
        host=row.host,
        port=row.port,
        user=row.user,
        credential=_credential(row.credential_kind, row.secret, binding, row.own_key_id, None),
        host_key=pinned,
        jump=front,
        rules=network_rules(),
    )
    secret: Any = row.secret
    if isinstance(secret, BoundSecret):  # the stored one, which is kept
        credential_use.note_jump_host(row, ())
    share = max(1.0, clock.left)
    limits = replace(DEFAULT, connect_s=share / 2, handshake_s=share / 2, auth_s=share)
    with connect_once(target, limits) as connection:
        own = row.credential_kind == CredentialKind.NODEADMIN_KEY
        return pinned, own_key_of(connection) if own else None


def chosen_key(scan: HostKeyScan, confirmed: str, key_type: str) -> HostKey:
    """The key that was confirmed, out of those that the host shows now.

    Raises HostKeyMismatch only where the host has answered for every type that the key may have, and
    otherwise the error for which it did not.
    """
    found = scan.key_of(confirmed)
    if found is not None:
        return found
    differs = scan.key_of_type(key_type) is not None if key_type else scan.shows_every_family
    if scan.missing and not (key_type and differs):
        raise scan.missing[0].error
    shown = ", ".join(f"{key.type} {key.fingerprint}" for key in scan.keys) or _("none")
    said = {"shown": shown, "confirmed": confirmed, "type": key_type}
    reason = "differs" if differs else "type_missing" if key_type else "not_shown"
    if differs:
        message = _("The host shows %(shown)s; confirmed was %(confirmed)s.") % said
        remedy = _(
            "Compare the fingerprints on the host's console. If it was reinstalled, confirm its new key; "
            "if not, somebody may be in between."
        )
    elif key_type:
        message = _("The host has no host key of the type %(type)s. It shows %(shown)s.") % said
        remedy = _("Compare the fingerprint of a key that it shows on the host's console, and confirm that.")
    else:
        message = _("The host shows %(shown)s; confirmed was %(confirmed)s.") % said
        remedy = _("Scan the host's key, compare a fingerprint on the host's console, and confirm that.")
    raise HostKeyMismatch(
        message,
        remedy=remedy,
        field="host_key_fingerprint",
        extra={
            "reason": reason,
            "confirmed": confirmed,
            "shown": [key.fingerprint for key in scan.keys],
        },
    )


def connect(target: HostTarget) -> HostConnection:
    """The pool's connection to a known node; it stays open for the next one who asks."""
    return pool().get(target)


def connect_once(target: HostTarget, deadlines: Deadlines = DEFAULT) -> HostConnection:
    """A connection of its own, which the caller closes: for hosts that are not nodes yet, or that are only
    asked whether they answer."""
    return open_connection(target, deadlines)


def last_good(node: Node) -> LastGood:
    """What libvirt last answered for this node where answers are slow to come (kept in memory)."""
    with _guard:
        return _last_good.setdefault(str(node.uuid), LastGood())
