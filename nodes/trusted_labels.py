"""Labels that permissions hang on: who may set, change or remove them.

A role that is given for ``rack=a1``, or a token that is limited to it, makes every node with that label one
of its nodes. So a label whose key a role assignment or a valid token names is changed only by who may grant:
otherwise whoever may change a node could give it to others, or take it from them.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import TrustedLabel
from nodes.models import ApiToken, RoleAssignment, RoleScope, TokenScope, User
from nodes.models.turn import one_after_another
from nodes.permissions import GRANT, has_for_all


def hold_labels() -> None:
    """Let nobody else change labels, or make permissions hang on them, until the transaction ends.

    To be called before the check by both sides: otherwise a label that is not trusted yet could be set by one
    transaction while another one gives a role for it.
    """
    one_after_another("labels")


def trusted_keys() -> frozenset[str]:
    """The keys that permissions hang on: of role assignments, and of tokens that are still valid."""
    by_role = RoleAssignment.objects.filter(scope=RoleScope.LABELS).values_list("selector", flat=True)
    by_token = ApiToken.objects.filter(
        scope=TokenScope.LABELS, revoked_at=None, expires_at__gt=timezone.now()
    ).values_list("selector", flat=True)
    return frozenset(key for selector in by_role.order_by().union(by_token.order_by()) for key in selector)


def require_label_change(user: User | None, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raise TrustedLabel where ``after`` differs from ``before`` in a label that permissions hang on, and
    ``user`` may not grant. The system itself (None) has no labels of its own to give."""
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    if not changed or user is None or has_for_all(user, GRANT):
        return
    trusted = sorted(changed & trusted_keys())
    if trusted:
        raise TrustedLabel(
            _("Permissions depend on the label “%s”.") % trusted[0],
            remedy=_("Leave it as it is, or ask somebody with the permission “%s” to change it.") % GRANT,
            field="labels",
        )
