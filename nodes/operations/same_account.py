"""Who else logs in with nodeadmin's key as the same user of the same host.

authorized_keys belongs to a user of a host, and one host may be a node and a jump host, under several names
and addresses. A line is taken out of the file for one of them, and lost for all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from django.db.models import Q
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostError
from nodes.hosts.host_key_scan import scan_host_keys
from nodes.hosts.target import HostTarget
from nodes.models import JumpHost, Node, OwnKeyPair
from nodes.models.credential import CredentialKind
from nodes.operations.own_keys import OWN_JUMP

_SCAN_S = 10.0
_SHOWN = 10


def others_on_account(
    target: HostTarget, but: Node | JumpHost | None = None, *, lacking: OwnKeyPair | None = None
) -> list[str]:
    """The names of nodes and jump hosts, other than ``but``, that log in with nodeadmin's key as the target's
    user of its host; with ``lacking`` only those that are not known to let this pair in.

    A host is known again by its address or by its host key. Each row knows one of its keys: where that is of
    another type than the target's, the host is asked for all of them.
    """
    account = _Account(target, but, lacking)
    pinned = {target.host_key.to_text()} if target.host_key is not None else set()
    return account.names(pinned) or (account.names(_shown(target)) if account.may_be_hidden() else [])


def listed(names: Sequence[str]) -> str:
    """For a message: ten of them at most, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return shown if more <= 0 else _("%(names)s and %(more)d more") % {"names": shown, "more": more}


class _Account:
    def __init__(self, target: HostTarget, but: Node | JumpHost | None, lacking: OwnKeyPair | None) -> None:
        self._target, self._but = target, but
        self._jump_hosts = JumpHost.objects.filter(OWN_JUMP, user=target.user)
        self._nodes = Node.objects.filter(credential__kind=CredentialKind.NODEADMIN_KEY)
        if isinstance(but, JumpHost):
            self._jump_hosts = self._jump_hosts.exclude(pk=but.pk)
        elif but is not None:
            self._nodes = self._nodes.exclude(pk=but.pk)
        if lacking is not None:
            self._jump_hosts = self._jump_hosts.exclude(own_key=lacking, own_key__isnull=False)
            self._nodes = self._nodes.exclude(credential__own_key=lacking, credential__own_key__isnull=False)

    def names(self, host_keys: Iterable[str]) -> list[str]:
        keys = list(host_keys)
        here = Q(host=self._target.host, port=self._target.port) | Q(host_key__in=keys)
        jump_hosts = self._jump_hosts.filter(here).order_by("name").values_list("name", flat=True)
        return [*jump_hosts, *self._node_names(keys)]

    def may_be_hidden(self) -> bool:
        """Whether one of them may be the host by a key of another type than the target's."""
        pinned = self._target.host_key
        other = ~Q(host_key__startswith=f"{pinned.type} ") if pinned is not None else Q()
        if self._jump_hosts.filter(other).exists():
            return True
        by_user = Q(uri__contains=f"//{self._target.user}@") | ~Q(uri__contains="@")
        # Two nodes are told apart by what their hosts say of themselves.
        return not isinstance(self._but, Node) and self._nodes.filter(other & by_user).exists()

    def _node_names(self, host_keys: list[str]) -> Iterator[str]:
        target = self._target
        known = isinstance(self._but, Node) and self._but.identity is not None
        rows = self._nodes.filter(Q(uri__icontains=target.host) | Q(host_key__in=host_keys))
        for name, text, key, identity in (
            rows.order_by("name").values_list("name", "uri", "host_key", "identity").iterator()
        ):
            uri = access.stored_uri(text)
            if (uri.user or access.DEFAULT_USER) != target.user:
                continue
            cloned = known and identity is not None  # another host, made of the same image
            if (uri.host, uri.port) == (target.host, target.port) or (key in host_keys and not cloned):
                yield str(name)


def _shown(target: HostTarget) -> set[str]:
    """All keys that the host shows; none where it does not answer."""
    with contextlib.suppress(HostError):
        return {
            key.to_text()
            for key in scan_host_keys(
                target.host, target.port, rules=target.rules, timeout_s=_SCAN_S, jump=target.jump
            )
        }
    return set()
