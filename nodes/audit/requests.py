"""Who acts in a request, and what was denied to them: for every entry that the request leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from nodes.audit.counted import count, network_of
from nodes.events import Actor, Target, acting
from nodes.models import ApiToken, Node, User
from nodes.models.event import Via

API = "/api/"
MOST_DENIALS = 20
"""Of one request that are entries of their own; a bulk action on a thousand nodes is not to write a thousand.
Those beyond it are one entry."""
MOST_NAMES = 1000
"""Nodes that one entry names."""


def address_of(request: HttpRequest) -> str | None:
    return request.META.get("REMOTE_ADDR") or None


def via_of(request: HttpRequest) -> str:
    if request.path.startswith(API):
        return Via.API
    return Via.ADMIN if request.path.startswith(reverse("admin:index")) else Via.PAGE


def actor_of_request(request: HttpRequest) -> Actor:
    """As far as the request has come: before its token was looked at, nobody is known yet."""
    user = getattr(request, "user", None)
    token = getattr(request, "auth", None)  # DRF puts it here, too
    return Actor(
        user=user if isinstance(user, User) and user.is_authenticated else None,
        source_ip=address_of(request),
        via=via_of(request),
        token_name=token.name if isinstance(token, ApiToken) else "",
    )


@dataclass(frozen=True, slots=True)
class Denial:
    """A permission that was asked for and not there."""

    user: User
    permission: str
    node: Node | None


_denials: ContextVar[list[Denial] | None] = ContextVar("nodeadmin_denials", default=None)


def note_denial(user: User, permission: str, node: Node | None) -> None:
    """Called where a permission is missing; told when the request is over, outside of what is rolled back."""
    noted = _denials.get()
    if noted is not None:
        noted.append(Denial(user, permission, node))


@contextmanager
def noting_denials() -> Iterator[list[Denial]]:
    noted = list[Denial]()
    before = _denials.set(noted)
    try:
        yield noted
    finally:
        _denials.reset(before)


def tell_denials(noted: list[Denial], actor: Actor, action: str) -> None:
    """Entries of what was denied, counted by who, from where and how, action, permission and node."""
    further: dict[tuple[User, str], list[Node | None]] = {}
    for number, denial in enumerate(noted):
        if number < MOST_DENIALS:
            _tell_denial(denial.user, denial.permission, [denial.node], actor, action)
        else:
            further.setdefault((denial.user, denial.permission), []).append(denial.node)
    for (user, permission), nodes in further.items():
        _tell_denial(user, permission, nodes, actor, action)


def _tell_denial(
    user: User, permission: str, nodes: Sequence[Node | None], actor: Actor, action: str
) -> None:
    words = _("Permission denied: %(action)s needs the permission “%(permission)s”.")
    told = {"action": action, "permission": permission}
    named = [node.name for node in nodes if node is not None]
    data: dict[str, Any] = dict(told)
    if len(nodes) > 1:
        words = _("Permission denied on %(count)d nodes: %(action)s needs the permission “%(permission)s”.")
        data |= {"nodes": named[:MOST_NAMES], "node_count": len(named)}
    count(
        "permission_denied",
        words % {**told, "count": len(named)},
        key=(*_who(user, actor), action, permission, *(str(node.uuid) if node else "" for node in nodes)),
        actor=Actor(user, actor.source_ip, actor.via, actor.token_name),
        node=nodes[0] if len(nodes) == 1 else None,
        target=Target("permission", permission, permission),
        data=data,
        crowd={"permission": permission},
    )


def _who(user: User | None, actor: Actor) -> tuple[str, ...]:
    """What an entry says of who it was: somebody else's or from elsewhere is another one."""
    pk = str(user.pk) if user is not None else ""
    return (pk, network_of(actor.source_ip), str(actor.via), actor.token_name)


def tell_refusal(actor: Actor, action: str) -> None:
    """Of what something else than a permission refused: a token's limits, or the Django admin."""
    count(
        "permission_denied",
        _("Permission denied: %(action)s.") % {"action": action},
        key=(*_who(actor.user, actor), action),
        actor=actor,
        data={"action": action},
    )


def tell_refused_token(actor: Actor) -> None:
    """Of a token that nobody has (any more)."""
    words = _("A request with an API token was refused: the token is unknown, expired or revoked.")
    count("token_refused", words, key=(network_of(actor.source_ip),), actor=actor)


class ActorMiddleware:
    """Names who acts for the time of a request, and tells what was denied when it is over.

    Behind AuthenticationMiddleware, and before what turns errors into answers.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with acting(partial(actor_of_request, request)), noting_denials() as noted:
            response = self.get_response(request)
        self._tell(request, response, noted)
        return response

    def _tell(self, request: HttpRequest, response: HttpResponse, noted: list[Denial]) -> None:
        match = request.resolver_match
        action = (match.url_name or match.view_name or "") if match is not None else ""
        actor = actor_of_request(request)
        # A page that asks what to offer is denied nothing.
        if noted and (response.status_code == 403 or request.method not in ("GET", "HEAD")):
            tell_denials(noted, actor, action.removeprefix("api-"))
        elif response.status_code == 403 and actor.user is not None and not _has_expired_form(request):
            tell_refusal(actor, action.removeprefix("api-"))
        elif response.status_code == 401 and "HTTP_AUTHORIZATION" in request.META:
            tell_refused_token(actor)


def _has_expired_form(request: HttpRequest) -> bool:
    """Refused over its CSRF token: a form that was open too long."""
    return getattr(request, "form_has_expired", False)
