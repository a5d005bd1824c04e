"""Second factors: what needs a fresh one, how it is verified, and that each proof counts once.

A fresh factor is asked for by :func:`require_fresh`, in the transaction that acts on it. It comes with the
request (``Actor.factor``) or was given a moment before (the API's ``verify-second-factor``). A proof belongs
to one login and to what it was given for (``about``): a confirmation by its token, any other call by its name
and the node. It lives for five minutes, and the row that holds it is deleted by its use.

A token needs none where what it may do was granted to it with a fresh factor; one that was made without, such
as before the settings asked for one, does nothing that needs one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.core import context
from allauth.core.internal.cryptokit import normalize_user_code
from allauth.mfa.base.internal.flows import check_rate_limit
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.internal import auth as webauthn
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from nodes.errors import NodeAdminError, PermissionDenied, RateLimited, SecondFactorRequired
from nodes.events import Actor, record, target_of, told
from nodes.models import FactorProof, UsedConfirmation, User
from nodes.models.event import Severity, Via

POWER, REMOVAL, CREDENTIALS, GRANT, TOKEN = "power", "removal", "credentials", "grant", "token"
PURPOSES = (POWER, REMOVAL, CREDENTIALS, GRANT, TOKEN)
LIVES_S = 300
CHALLENGE = "nodeadmin.passkey"
"""Where the session keeps what a passkey was asked for."""
PERIOD_S = 30
WINDOW = 1
"""An app's code counts in its own period and in the one before and after (RFC 6238, section 5.2)."""


def of_confirmation(token: str) -> str:
    """What a proof for the call with this ``confirm_token`` is about."""
    return "confirmation " + hashlib.sha256(token.encode()).hexdigest()


def of_call(name: str, subject: object = "") -> str:
    """What a proof for a call without a confirmation is about; ``subject`` is its node's UUID or its
    operation's id."""
    return f"{name} {subject}".strip()


def has_factor(user: User) -> bool:
    """Whether the user could give a second factor."""
    return Authenticator.objects.filter(user=user.pk).exists()


def factors_of(user: User) -> frozenset[str]:
    """The kinds of factor that the user has: ``totp``, ``webauthn``, ``recovery_codes``."""
    return frozenset(Authenticator.objects.filter(user=user.pk).values_list("type", flat=True))


def is_required(actor: Actor) -> bool:
    """Whether the actor has to give a fresh factor for what asks for one: a person with a login does, where
    the settings say so. The server's command line, nodeadmin itself and tokens do not."""
    if not settings.NODEADMIN_REQUIRE_SECOND_FACTOR or actor.user is None:
        return False
    if actor.via == Via.API and actor.token_name:
        return False
    return actor.via not in (Via.COMMAND, Via.SYSTEM)


def _require_granted_token(actor: Actor) -> None:
    limits = actor.user.token_limits if actor.user is not None else None
    if settings.NODEADMIN_REQUIRE_SECOND_FACTOR and limits is not None and not limits.with_factor:
        raise PermissionDenied(
            _("This API token was made without a second factor, and this needs one."),
            remedy=_("Make a new token under Account › API tokens, which asks for one, and use that."),
        )


def require_fresh(actor: Actor, purpose: str, *, about: str = "") -> None:
    """Use up a fresh factor of the actor for ``about`` (left out: for anything of that ``purpose``).

    Call it in the transaction of the change: what is rolled back leaves the proof as it was. Raises
    SecondFactorRequired where there is none, RateLimited after too many wrong ones, PermissionDenied for a
    token that was made without one.
    """
    _require_granted_token(actor)
    if not is_required(actor):
        return
    expect_fresh(actor, purpose, about=about)
    if not _use(actor, purpose, about):
        raise _missing(actor)


def expect_fresh(actor: Actor, purpose: str, *, about: str = "") -> None:
    """Verify the factor that came with the request, and keep the proof for :func:`require_fresh`.

    For calls that take their time before they act: what is missing is said at once. Raises as it does.
    """
    _require_granted_token(actor)
    if not is_required(actor) or _proofs(actor, purpose, about).exists():
        return
    if not actor.factor:
        raise _missing(actor)
    prove(actor, about or purpose)


def prove(actor: Actor, about: str) -> datetime:
    """Verify the actor's factor and keep a proof for ``about``; gives when that ends.

    Raises SecondFactorRequired for a factor that does not count or a request without a login, RateLimited.
    """
    user = actor.user
    if user is None or not actor.session_key or not actor.factor:
        raise _missing(actor)
    if actor.factor.passkey:
        authenticator = _verify_passkey(actor, user, about)
    else:
        authenticator = verify_code(user, actor.factor.code)
    if authenticator is None:
        _tell_wrong(actor, user)
        raise _wrong()
    with transaction.atomic():
        authenticator.record_usage()
        told_use(actor, user, authenticator)
        FactorProof.objects.create(user=user, bound=_bound(actor, about))
    return timezone.now() + timedelta(seconds=LIVES_S)


def has_proof(actor: Actor, purpose: str, *, about: str = "") -> bool:
    """Whether :func:`require_fresh` would pass with what was given before."""
    return not is_required(actor) or _proofs(actor, purpose, about).exists()


# -- verifying -------------------------------------------------------------------------------------


def verify_code(user: User, code: str) -> Authenticator | None:
    """The factor that ``code`` belongs to, and which it is now used up for; None for a wrong one.

    Raises RateLimited after too many wrong ones.
    """
    # As allauth compares it: "123-456" is the same code as "123456", and counts once like it.
    code = normalize_user_code(code)
    found = None
    clear = _counted(user)
    with transaction.atomic():
        factors = Authenticator.objects.select_for_update().filter(user=user.pk)
        for authenticator in factors.exclude(type=Authenticator.Type.WEBAUTHN):
            factor = authenticator.wrap()
            with told():  # that a recovery code is marked as used: told_use says so
                counts = bool(code) and factor.validate_code(code) and _spend(authenticator, code)
            if counts:
                found = factor.instance
                break
    if found is not None:
        clear()
    return found


def _spend(authenticator: Authenticator, code: str) -> bool:
    """Note the code's use, for all processes: False where it was used before. A recovery code is spent by its
    factor as well; an app's code cannot come again before its periods are over."""
    period = int(time.time()) // PERIOD_S if authenticator.type == Authenticator.Type.TOTP else 0
    spans = range(period - 2 * WINDOW, period + 1) if period else range(1)
    nonces = [_nonce(authenticator, code, span) for span in spans]
    if UsedConfirmation.objects.filter(nonce__in=nonces).exists():
        return False
    try:
        with transaction.atomic():
            UsedConfirmation.objects.create(nonce=nonces[-1])
    except IntegrityError:
        return False
    return True


def _nonce(authenticator: Authenticator, code: str, period: int) -> str:
    text = f"{authenticator.pk} {authenticator.created_at.isoformat()} {code} {period}"
    return hashlib.sha256(text.encode()).hexdigest()


def _verify_passkey(actor: Actor, user: User, about: str) -> Authenticator | None:
    session = context.request.session
    asked = session.pop(CHALLENGE, None)
    clear = _counted(user)
    if asked != _bound(actor, about):
        return None  # it was asked for something else
    try:
        response = json.loads(actor.factor.passkey)
        webauthn.parse_authentication_response(response)
        found: Authenticator = webauthn.complete_authentication(user, response)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ValidationError):
        return None
    clear()
    return found


def challenge(actor: Actor, about: str) -> Mapping[str, Any]:
    """What the user's passkeys are to answer (WebAuthn's PublicKeyCredentialRequestOptions, as JSON), for
    ``about`` alone. The newest of a session counts."""
    options: Mapping[str, Any] = webauthn.begin_authentication(actor.user)
    context.request.session[CHALLENGE] = _bound(actor, about)
    return options


def _counted(user: User) -> Any:
    """Count an attempt; what is given clears the count. Raises RateLimited after too many wrong ones."""
    try:
        return check_rate_limit(user)
    except ValidationError:
        raise RateLimited(
            _("Too many wrong codes."), remedy=_("Wait five minutes, and try again."), field="code"
        ) from None


# -- logins ----------------------------------------------------------------------------------------


def is_verified(session: Mapping[str, Any] | Any) -> bool:
    """Whether a second factor was given in this login: a code, a passkey, or one that the identity provider
    vouches for."""
    records = session.get(AUTHENTICATION_METHODS_SESSION_KEY)
    if not isinstance(records, list):
        return False
    return any(isinstance(row, dict) and row.get("method") in ("mfa", "provider_mfa") for row in records)


def may_use(session: Mapping[str, Any] | Any) -> bool:
    """Whether a login may do more than set up a second factor."""
    return settings.NODEADMIN_REQUIRE_SECOND_FACTOR != "all" or is_verified(session)


# -- the record, and errors ------------------------------------------------------------------------


def told_use(actor: Actor, user: User, authenticator: Authenticator) -> None:
    """Recovery codes are few, and each use of one is worth an event."""
    if authenticator.type != Authenticator.Type.RECOVERY_CODES:
        return
    left = len(authenticator.wrap().get_unused_codes())
    record(
        "recovery_code_used",
        _("A recovery code of %(user)s was used; %(count)d are left")
        % {"user": user.get_username(), "count": left},
        actor=actor,
        target=target_of(user),
        severity=Severity.WARNING,
        data={"left": left},
    )


def _tell_wrong(actor: Actor, user: User) -> None:
    record(
        "second_factor_failed",
        _("A second factor of %s did not count") % user.get_username(),
        actor=actor,
        target=target_of(user),
        severity=Severity.WARNING,
    )


def _missing(actor: Actor) -> NodeAdminError:
    if actor.user is not None and not has_factor(actor.user):
        return SecondFactorRequired(
            _("Your account has no second factor, and this needs one."),
            remedy=_("Set one up under Account › Second factor, and try again."),
            extra={"enrol": True},
        )
    return SecondFactorRequired(
        _("This needs a second factor."),
        remedy=_("Give the code of your authenticator app, a passkey or a recovery code."),
        field="code",
        extra={"enrol": False},
    )


def _wrong() -> SecondFactorRequired:
    return SecondFactorRequired(
        _("The second factor is wrong or already used."),
        remedy=_("Give another one: a code counts once."),
        field="code",
        extra={"enrol": False, "wrong": True},
    )


def _bound(actor: Actor, about: str) -> str:
    return hashlib.sha256(f"{actor.session_key}\n{about}".encode()).hexdigest()


def _proofs(actor: Actor, purpose: str, about: str) -> Any:
    """The proofs that count. The Django admin's forms have no field for a code: there one for the purpose,
    given on the page before, does."""
    if actor.user is None or not actor.session_key:
        return FactorProof.objects.none()
    things = {about or purpose, purpose if actor.via == Via.ADMIN else about or purpose}
    return FactorProof.objects.filter(
        user=actor.user.pk,
        bound__in=[_bound(actor, thing) for thing in things],
        made_at__gt=timezone.now() - timedelta(seconds=LIVES_S),
    )


def _use(actor: Actor, purpose: str, about: str) -> bool:
    row = _proofs(actor, purpose, about).first()
    return row is not None and FactorProof.objects.filter(pk=row.pk).delete()[0] == 1
