"""nodeadmin's key pairs, and which hosts let which of them in. Single rows; nothing here reaches a host."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Max, Q
from django.utils.translation import gettext as _

from nodes import access
from nodes.events import Actor, Target, record, told
from nodes.hosts.keypair import generate_key_pair
from nodes.models import Credential, JumpHost, KeyState, Operation, OwnKeyPair
from nodes.models.credential import CredentialKind

OWN = Q(kind=CredentialKind.NODEADMIN_KEY)
OWN_JUMP = Q(credential_kind=CredentialKind.NODEADMIN_KEY)


@dataclass(frozen=True, slots=True)
class Lacking:
    """Who is not known to let the current key pair in: nodes and jump hosts, by number and name."""

    nodes: tuple[tuple[int, str], ...] = ()
    jump_hosts: tuple[tuple[int, str], ...] = ()

    @property
    def names(self) -> list[str]:
        return [name for _number, name in (*self.jump_hosts, *self.nodes)]


def retiring() -> OwnKeyPair | None:
    """The key pair that is being replaced; None where none is."""
    return OwnKeyPair.objects.filter(state=KeyState.RETIRING).first()


def lacking(current: OwnKeyPair) -> Lacking:
    """Those that log in with nodeadmin's key, and not with this pair for all that is known."""
    credentials = Credential.objects.filter(OWN).exclude(own_key=current, own_key__isnull=False)
    jump_hosts = JumpHost.objects.filter(OWN_JUMP).exclude(own_key=current, own_key__isnull=False)
    return Lacking(
        tuple(credentials.order_by("node__name").values_list("node_id", "node__name")),
        tuple(jump_hosts.order_by("name").values_list("pk", "name")),
    )


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
    not known to let any pair in from now on."""
    current = access.own_key_pair()
    left = lacking(current)
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
            "forced": forced,
            "lacking": left.names[:500],
            "lines_left": lines.names[:500],
        },
    )
    return left
