"""API tokens: the user's own, made, shown once and revoked; those of others, for who may revoke them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from nodes import second_factor
from nodes.engine.tokens import make_token, revoke_token, tokens_seen_by
from nodes.errors import InvalidInput, NodeAdminError, RateLimited, SecondFactorRequired, UnknownNode
from nodes.models import ApiToken, Node, User
from nodes.models.role import selector_of
from nodes.permissions import ALL_PERMISSIONS, GRANT, get_node, has_for_all, nodes_for
from nodes.web.factor import factor_field
from nodes.web.forms.token import TokenForm
from nodes.web.views.access import actor_of, user_of

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class TokenLine:
    """A token as the table shows it: ``nodes`` are names of those that the viewer may see."""

    token: ApiToken
    labels: tuple[tuple[str, str], ...]
    nodes: tuple[str, ...]
    unseen: int

    @property
    def has_all(self) -> bool:
        return set(ALL_PERMISSIONS) <= set(self.token.permissions)


@never_cache
@require_http_methods(["GET", "POST"])
def token_list(request: HttpRequest) -> HttpResponse:
    """The tokens, and the making of one. Its text is in the answer to the POST alone and nowhere after."""
    user = user_of(request)
    form = TokenForm(user, request.POST if request.method == "POST" else None)
    made = ""
    refused: NodeAdminError | None = None
    if form.is_bound and form.is_valid():
        try:
            made = _make(request, user, form.cleaned_data)
            form = TokenForm(user)
        except (SecondFactorRequired, RateLimited) as error:
            refused = error
        except (InvalidInput, UnknownNode) as error:
            place = "nodes" if isinstance(error, UnknownNode) else error.field
            form.add_error(place if place in form.fields else None, error.detail())
    valid = ApiToken.objects.filter(revoked_at=None)
    others: Any = None
    page_range: Iterable[Any] = ()
    if has_for_all(user, GRANT):
        rows = valid.exclude(user=user).select_related("user").order_by("user__username", "-created_at")
        others = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
        page_range = others.paginator.get_elided_page_range(others.number, on_each_side=2, on_ends=1)
    own = _lines(user, valid.filter(user=user))
    context = {
        "form": form,
        "made": made,
        "tokens": own,
        "others": others,
        "page_range": tuple(page_range),
        "other_tokens": _lines(user, others) if others else [],
        "factor": factor_field(request, about=second_factor.TOKEN, error=refused),
    }
    return render(request, "settings/tokens.html", context, status=422 if refused is not None else 200)


def _make(request: HttpRequest, user: User, data: dict[str, Any]) -> str:
    actor = actor_of(request)
    second_factor.expect_fresh(actor, second_factor.TOKEN)
    _token, text = make_token(
        actor,
        data["name"],
        timezone.now() + timedelta(days=data["days"]),
        permissions=data["permissions"],
        read_only=data["read_only"],
        labels=data["labels"],
        nodes=[get_node(user, name) for name in data["nodes"]],
        networks=data["networks"],
    )
    return text


def _lines(user: User, tokens: Iterable[ApiToken]) -> list[TokenLine]:
    rows = list(tokens)
    wanted = {uuid for row in rows for uuid in row.node_uuids}
    names: dict[str, str] = {}
    if wanted:
        seen: Iterable[Node] = nodes_for(user).filter(uuid__in=wanted).only("uuid", "name")
        names = {str(node.uuid): node.name for node in seen}
    lines = []
    for row in rows:
        known = sorted(names[uuid] for uuid in row.node_uuids if uuid in names)
        lines.append(
            TokenLine(row, selector_of(row.selector), tuple(known), len(row.node_uuids) - len(known))
        )
    return lines


@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """End a token at once. A token that one may not revoke does not exist here."""
    user = user_of(request)
    token = tokens_seen_by(user).filter(pk=pk, revoked_at=None).first()
    if token is None or not revoke_token(actor_of(request), token):
        raise Http404
    messages.success(request, _("The token “%s” no longer works.") % token.name)
    return redirect("token-list")
