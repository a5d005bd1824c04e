"""Logins of users: listed, ended, and what goes with a new password."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from nodes import second_factor
from nodes.engine.submit import asking_user
from nodes.engine.tokens import end_token
from nodes.events import Actor, LoginsEnded, publish, record, target_of
from nodes.login_age import ended
from nodes.models import ApiToken, User
from nodes.permissions import GRANT, require

MOST_SESSIONS = 200


def user_of_session(key: str) -> User | None:
    """The active user of a login that still holds, as the database has it now, for what goes on after the
    request that began it; None where it has ended, or lacks the second factor that is required."""
    request = HttpRequest()
    request.session = _store(key)
    if ended(request.session) or not second_factor.may_use(request.session):
        return None
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active else None


def _store(key: str | None = None) -> SessionBase:
    store: type[SessionBase] = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    return store(key)


def sessions_of(user: User) -> list[UserSession]:
    """The logins of the user that still hold, the one used last first, and at most :data:`MOST_SESSIONS`. Two
    queries: allauth's own list takes three for each row."""
    rows = list(UserSession.objects.filter(user=user.pk).order_by("-last_seen_at")[:MOST_SESSIONS])
    kept = Session.objects.filter(
        session_key__in=[row.session_key for row in rows], expire_date__gte=timezone.now()
    )
    holding = {row.session_key for row in kept if _holds(row, user)}
    return [row for row in rows if row.session_key in holding]


def _holds(session: Session, user: User) -> bool:
    """Whether it is of this user, with the password that they have now."""
    data = session.get_decoded()
    signed = str(data.get(HASH_SESSION_KEY, ""))
    return data.get(SESSION_KEY) == str(user.pk) and secrets.compare_digest(
        signed, user.get_session_auth_hash()
    )


def moved(before: str, after: str) -> None:
    """Note that a login goes on under another session key."""
    UserSession.objects.filter(session_key=after).delete()
    UserSession.objects.filter(session_key=before).update(session_key=after)


def end_sessions(actor: Actor, user: User, rows: Iterable[UserSession], *, reason: str = "asked") -> int:
    """End logins of ``user`` at once; gives how many. Those of others need the permission ``grant_access``.

    Raises PermissionDenied.
    """
    asking = asking_user(actor)
    if asking.pk != user.pk:
        require(asking, GRANT)
    ended = [row for row in rows if row.user_id == user.pk]
    if not ended:
        return 0
    store = _store()
    with transaction.atomic():
        for row in ended:
            store.delete(row.session_key)
            row.delete()
            record(
                "session_ended",
                _("A session of %s was ended") % user.get_username(),
                actor=actor,
                target=target_of(user),
                data={"reason": reason, "address": row.ip, "agent": row.user_agent[:200]},
            )
        publish(LoginsEnded(user.pk))
    return len(ended)


def end_other_sessions(actor: Actor, user: User, *, reason: str = "asked") -> int:
    """End all logins of ``user`` but the actor's own. Raises PermissionDenied."""
    rows = UserSession.objects.filter(user=user.pk).exclude(session_key=actor.session_key)
    return end_sessions(actor, user, rows, reason=reason)


def revoke_tokens(actor: Actor, user: User) -> int:
    """Revoke all tokens of ``user``; gives how many. Those of others need ``grant_access``."""
    asking = asking_user(actor)
    if asking.pk != user.pk:
        require(asking, GRANT)
    with transaction.atomic():
        rows = list(ApiToken.objects.select_for_update().filter(user=user.pk, revoked_at=None))
        for row in rows:
            end_token(actor, row)
    return len(rows)


def password_changed(actor: Actor, user: User, *, tokens: bool) -> None:
    """What goes with a new password, in the transaction that sets it: all other logins end, with ``tokens``
    the tokens as well, and it is on record who has set it."""
    own = actor.user is not None and actor.user.pk == user.pk
    name = user.get_username()
    text = _("%s changed the password") % name if own else _("The password of %s was set") % name
    ended = end_other_sessions(actor, user, reason="password")
    revoked = revoke_tokens(actor, user) if tokens else 0
    record(
        "password_changed" if own else "password_set",
        text,
        actor=actor,
        target=target_of(user),
        data={"sessions_ended": ended, "tokens_revoked": revoked},
    )
    publish(LoginsEnded(user.pk))


def told_ended(sessions: int, tokens: int) -> str:
    """ "2 other sessions ended, 1 token revoked" in words."""
    words = [ngettext("%d other session ended.", "%d other sessions ended.", sessions) % sessions]
    if tokens:
        words.append(ngettext("%d token revoked.", "%d tokens revoked.", tokens) % tokens)
    return " ".join(words)
