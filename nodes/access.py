"""The only bridge from a Node row to a host: who reads credentials, and who connects.

Everything that reaches out asks here for a target or a connection; nothing else opens a sealed secret.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from nodes.errors import InvalidInput, NodeAdminError, UnknownNode
from nodes.hosts.bmc_target import BmcTarget, parse_bmc_url
from nodes.hosts.connection import ConnectionPool, HostConnection
from nodes.hosts.connection import connect as open_connection
from nodes.hosts.deadlines import DEFAULT, Deadlines
from nodes.hosts.keypair import generate_key_pair
from nodes.hosts.libvirt_facts import LastGood
from nodes.hosts.network_rules import NetworkRules, parse_networks
from nodes.hosts.target import Credential as HostCredential
from nodes.hosts.target import HostKey, HostTarget, PasswordCredential, SshKeyCredential
from nodes.hosts.uri import NodeUri, parse_uri
from nodes.models import Bmc, Credential, Node, Operation, OwnKeyPair
from nodes.models.credential import CredentialKind
from nodes.models.sealed import Sealed

DEFAULT_USER = "root"

_pool: ConnectionPool | None = None
_last_good: dict[str, LastGood] = {}
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Login:
    """How a host is entered: an address, a credential and the host key that was confirmed."""

    uri: NodeUri
    kind: str = ""
    secret: Mapping[str, Any] | None = field(default=None, repr=False)
    host_key: HostKey | None = None
    key: str = ""

    @classmethod
    def of_node(cls, node: Node) -> Login:
        """The node's stored login, as it is now.

        Address, host key and credential come out of one query: of an update between two of them, the new
        credential would go to the old host. Raises UnknownNode where the node has been removed meanwhile,
        CredentialUnreadable.
        """
        row = Node.objects.select_related("credential").filter(pk=node.pk).first()
        if row is None:
            raise _removed()
        return cls._of_row(row)

    @classmethod
    def _of_row(cls, row: Node) -> Login:
        credential: Credential | None = getattr(row, "credential", None)
        return cls(
            uri=read_uri(row.uri),
            kind=credential.kind if credential else "",
            secret=_opened(credential.secret) if credential else None,
            host_key=pinned_host_key(row),
            key=str(row.uuid),
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
        kind = params.get("credential_kind") or (old.kind if old else "")
        secret = _opened(operation.secret) if params.get("credential_kind") else (old.secret if old else None)
        return cls(read_uri(uri), kind, secret, old.host_key if old else None)

    def secret_to_keep(self) -> Mapping[str, Any] | None:
        """What is stored: nothing for nodeadmin's own key, which has a row of its own."""
        return None if self.kind == CredentialKind.NODEADMIN_KEY else self.secret

    def credential(self, own_key: str | None = None) -> HostCredential | None:
        """The secret in the form that ``hosts`` takes; ``own_key`` is nodeadmin's own private key, where the
        caller has it already."""
        secret = self.secret or {}
        if self.kind == CredentialKind.NODEADMIN_KEY:
            return SshKeyCredential(own_key or _own_private_key())
        if self.kind == CredentialKind.PASSWORD:
            return PasswordCredential(secret["password"])
        if self.kind == CredentialKind.SSH_KEY:
            return SshKeyCredential(secret["private_key"], secret.get("passphrase"))
        return None

    def target(self, own_key: str | None = None) -> HostTarget:
        """The target to connect to; ``own_key`` as in :meth:`credential`."""
        return HostTarget(
            key=self.key,
            transport=self.uri.transport,
            host=self.uri.host,
            port=self.uri.port,
            user=self.uri.user or DEFAULT_USER,
            credential=self.credential(own_key) if self.uri.transport == "ssh" else None,
            host_key=self.host_key,
            libvirt_uri=self.uri.libvirt_uri,
            rules=network_rules(),
        )


def _removed() -> UnknownNode:
    return UnknownNode(_("The node has been removed."), field="node")


def _own_private_key() -> str:
    key: str = _opened(own_key_pair().secret)["private_key"]
    return key


def _opened(secret: Any) -> Mapping[str, Any]:
    """A sealed field's value, opened; empty where there is none. Raises CredentialUnreadable."""
    if isinstance(secret, Sealed):
        return secret.open()
    return secret if isinstance(secret, Mapping) else {}


def pinned_host_key(node: Node) -> HostKey | None:
    """The key that the node's host must show; None for local and test nodes."""
    return HostKey.parse(node.host_key) if node.host_key else None


def pin(node: Node, key: HostKey | None) -> None:
    """Set the host key of ``node`` (unsaved)."""
    node.host_key = key.to_text() if key is not None else ""
    node.host_key_fingerprint = key.fingerprint if key is not None else ""


def own_key_pair() -> OwnKeyPair:
    """nodeadmin's own key pair, made at its first use; of two that make it at once, one wins."""
    found = OwnKeyPair.objects.filter(pk=OwnKeyPair.SINGLE).first()
    if found is not None:
        return found
    pair = generate_key_pair("nodeadmin")
    defaults = {"public_key": pair.public_key, "secret": {"private_key": pair.private_key}}
    return OwnKeyPair.objects.get_or_create(pk=OwnKeyPair.SINGLE, defaults=defaults)[0]


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
    """The target of a node, by what the database says now. Raises UnknownNode, CredentialUnreadable."""
    return Login.of_node(node).target()


def targets_for(nodes: Collection[Node]) -> dict[int, HostTarget | NodeAdminError]:
    """The targets of nodes by primary key, or why there is none (UnknownNode, CredentialUnreadable), in two
    queries however many there are."""
    rows = {row.pk: row for row in Node.objects.select_related("credential").filter(pk__in=_keys(nodes))}
    own_key = cache(_own_private_key)
    found: dict[int, HostTarget | NodeAdminError] = {}
    for key in _keys(nodes):
        try:
            if key not in rows:
                raise _removed()
            login = Login._of_row(rows[key])
            of_own = login.kind == CredentialKind.NODEADMIN_KEY
            found[key] = login.target(own_key() if of_own else None)
        except NodeAdminError as error:
            found[key] = error
    return found


def _keys(nodes: Collection[Node]) -> list[int]:
    return [node.pk for node in nodes]


def bmc_target(node: Node) -> BmcTarget | None:
    """How the node's BMC is reached, by what the database says now; None where it has none.

    Raises CredentialUnreadable.
    """
    row = Bmc.objects.filter(node=node.pk).first()
    if row is None:
        return None
    return BmcTarget(
        address=parse_bmc_url(row.url),
        user=row.user,
        password=_opened(row.secret).get("password", ""),
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
