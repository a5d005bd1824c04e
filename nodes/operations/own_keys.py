"""nodeadmin's key pairs, and which hosts let which of them in. Single rows; nothing here reaches a host."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Max, Q
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import InvalidInput, OwnKeyNeeded
from nodes.events import Actor, Target, record, told
from nodes.hosts.keypair import generate_key_pair
from nodes.models import Credential, JumpHost, KeyState, Operation, OperationStep, OwnKeyPair
from nodes.models.credential import CredentialKind
from nodes.models.operation import UNFINISHED

INSTALL = "install_key"
"""The step in which an operation installs the current pair, whose number is in its data as ``own_key``."""
OWN = Q(kind=CredentialKind.NODEADMIN_KEY)
OWN_JUMP = Q(credential_kind=CredentialKind.NODEADMIN_KEY)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Who is not known to let the current key pair in: nodes and jump hosts, by number and name."""

    nodes: tuple[tuple[int, str], ...] = ()
    jump_hosts: tuple[tuple[int, str], ...] = ()
    joining: tuple[str, ...] = ()
    """Hosts on which a running operation has installed another pair: it may know no other way in."""

    @property
    def names(self) -> list[str]:
        return [*(name for _number, name in (*self.jump_hosts, *self.nodes)), *self.joining]


def retiring() -> OwnKeyPair | None:
    """The key pair that is being replaced; None where none is."""
    return OwnKeyPair.objects.filter(state=KeyState.RETIRING).first()


def lacking(current: OwnKeyPair) -> Lacking:
    """Those that log in with nodeadmin's key, and not with this pair for all that is known."""
    credentials = Credential.objects.filter(OWN).exclude(own_key=current, own_key__isnull=False)
    jump_hosts = JumpHost.objects.filter(OWN_JUMP).exclude(own_key=current, own_key__isnull=False)
    nodes = tuple(credentials.order_by("node__name").values_list("node_id", "node__name"))
    return Lacking(
        nodes,
        tuple(jump_hosts.order_by("name").values_list("pk", "name")),
        tuple(sorted(_joining(current) - {name for _number, name in nodes})),
    )


def _joining(current: OwnKeyPair) -> set[str]:
    """On whose hosts an unfinished operation has installed another pair than this."""
    steps = OperationStep.objects.filter(code=INSTALL, operation__status__in=UNFINISHED)
    found = steps.filter(data__has_key="own_key").values_list("operation__node_name", "data")
    return {name for name, data in found if data["own_key"] != current.pk}


def old_lines(current: OwnKeyPair) -> Lacking:
    """Those that let the current pair in, and still have a line of the one before."""
    credentials = Credential.objects.filter(OWN, own_key=current, old_line_left=True)
    jump_hosts = JumpHost.objects.filter(OWN_JUMP, own_key=current, old_line_left=True)
    return Lacking(
        tuple(credentials.order_by("node__name").values_list("node_id", "node__name")),
        tuple(jump_hosts.order_by("name").values_list("pk", "name")),
    )


def everybody() -> Lacking:
    """All that log in with nodeadmin's key."""
    return Lacking(
        tuple(Credential.objects.filter(OWN).order_by("node__name").values_list("node_id", "node__name")),
        tuple(JumpHost.objects.filter(OWN_JUMP).order_by("name").values_list("pk", "name")),
    )


def make_next(actor: Actor, operation: Operation | None) -> OwnKeyPair:
    """Within a transaction: a new pair takes the place of the current one, which is kept as ``retiring``."""
    old = access.own_key_pair()
    old.state = KeyState.RETIRING
    with told():  # below
        old.save(update_fields=["state"])
    pair = generate_key_pair("nodeadmin")
    highest = OwnKeyPair.objects.aggregate(highest=Max("pk"))["highest"] or 0
    # The number of a pair that is gone is not used again: rows may still name it.
    number = max(highest, old.pk) + 1
    with told():  # below
        OwnKeyPair.objects.create(
            pk=number,
            state=KeyState.CURRENT,
            public_key=pair.public_key,
            secret={"private_key": pair.private_key},
        )
    row = OwnKeyPair.objects.get(pk=number)  # with the secret as it is stored
    record(
        "own_key_made",
        _("New key pair of nodeadmin: %s") % row.fingerprint,
        actor=actor,
        operation=operation,
        target=Target("own_key", str(row.pk), row.fingerprint),
        data={"before": {"fingerprint": old.fingerprint}, "after": {"fingerprint": row.fingerprint}},
    )
    return row


def drop_old(actor: Actor, old: OwnKeyPair, operation: Operation | None, *, forced: bool) -> Lacking:
    """Within a transaction: destroy the retiring pair; gives who was still to lack the current one, which are
    not known to let any pair in from now on.

    Whom the caller has found to lack it may be outdated. So it is asked again here, where nobody else can
    store a login by the old pair any more. Raises OwnKeyNeeded where somebody lacks the current one unless
    ``forced``, InvalidInput where the pair is not the retiring one any more.
    """
    if not OwnKeyPair.objects.select_for_update().filter(pk=old.pk, state=KeyState.RETIRING).exists():
        raise no_old_pair()
    current = access.own_key_pair()
    left = lacking(current)
    if left.names and not forced:
        raise needed(left)
    Credential.objects.filter(own_key=old).update(own_key=None)
    JumpHost.objects.filter(own_key=old).update(own_key=None)
    lines = old_lines(current)
    with told():  # below
        OwnKeyPair.objects.filter(pk=old.pk).delete()
    record(
        "own_key_retired",
        _("Key pair %s of nodeadmin retired") % old.fingerprint,
        actor=actor,
        operation=operation,
        target=Target("own_key", str(old.pk), old.fingerprint),
        data={
            "before": {"fingerprint": old.fingerprint, "public_key": old.public_key},
            "after": {"fingerprint": current.fingerprint},
            "forced": bool(left.names),
            "lacking": left.names[:500],
            "lines_left": lines.names[:500],
        },
    )
    return left


def needed(left: Lacking) -> OwnKeyNeeded:
    """The error of an old pair that some still need."""
    return OwnKeyNeeded(
        _("Hosts that lack the new key: %d.") % len(left.names),
        remedy=_("Replace the key again once they answer; with force they are left without."),
        extra={"lacking": left.names[:100], "lacking_count": len(left.names)},
    )


def no_old_pair() -> InvalidInput:
    """The error where there is nothing to retire."""
    return InvalidInput(
        _("There is no old key pair."), remedy=_("Replace the current one first: rotate-own-key.")
    )
