"""nodeadmin's own key pair: which hosts let it in, replacing it, and retiring the old one."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from nodes.engine import own_keys
from nodes.errors import (
    ConfirmationRequired,
    NodeAdminError,
    OwnKeyNeeded,
    PlanChanged,
    RateLimited,
    SecondFactorRequired,
)
from nodes.models import KeyState, Operation
from nodes.permissions import MANAGE_SSH, require
from nodes.second_factor import of_confirmation
from nodes.web.factor import factor_field
from nodes.web.views.access import actor_of, request_id_of, user_of

PAGE = 50
NAMED = 30


class _Rows:
    """Holders as a paginator takes them."""

    def __init__(self, holders: own_keys.Holders) -> None:
        self._holders = holders

    def __len__(self) -> int:
        return self._holders.count

    def __getitem__(self, part: slice) -> list[own_keys.Holder]:
        return self._holders.page(part.start, part.stop - part.start)


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    require(user, MANAGE_SSH)
    only = request.GET.get("lacking") == "1"
    rows: Any = _Rows(own_keys.holders(user, lacking=only))
    pairs = own_keys.pairs()
    context = {
        "pairs": [(row, own_keys.counts_of(row), own_keys.line_of(row)) for row in pairs],
        "retiring": any(row.state == KeyState.RETIRING for row in pairs),
        "lacking_count": own_keys.lacking_count(),
        "only_lacking": only,
        "page": Paginator(rows, PAGE).get_page(request.GET.get("page")),
        "running": Operation.objects.unfinished().filter(kind=own_keys.ROTATE).first(),
        "last": Operation.objects.filter(kind=own_keys.ROTATE).order_by("-created_at").first(),
    }
    return render(request, "settings/own_key.html", context)


@require_POST
def rotate(request: HttpRequest) -> HttpResponse:
    """First the plan with its confirmation, then, confirmed, the operation's page."""
    token = request.POST.get("confirm_token", "")
    try:
        operation = own_keys.rotate(actor_of(request), token, request_id=request_id_of(request))
    except (ConfirmationRequired, PlanChanged) as asked:
        return _confirm(request, asked, "rotate", force=False)
    except (SecondFactorRequired, RateLimited) as error:
        plan, _found = own_keys.plan_rotation()
        return _confirm(request, _again(error, plan, token), "rotate", force=False)
    except NodeAdminError as error:
        return _refused(request, error)
    return redirect("operation-detail", pk=operation.pk)


@require_POST
def retire(request: HttpRequest) -> HttpResponse:
    force, token = request.POST.get("force") == "on", request.POST.get("confirm_token", "")
    try:
        own_keys.retire(actor_of(request), force=force, confirm_token=token)
    except (ConfirmationRequired, PlanChanged) as asked:
        return _confirm(request, asked, "retire", force=force)
    except (SecondFactorRequired, RateLimited) as error:
        return _confirm(request, _again(error, own_keys.plan_retirement(), token), "retire", force=force)
    except OwnKeyNeeded as error:
        messages.error(request, error.detail())
        return redirect("own-key")
    except NodeAdminError as error:
        return _refused(request, error)
    messages.success(request, _("The old key pair is destroyed."))
    return redirect("own-key")


def _again(error: NodeAdminError, plan: own_keys.KeyPlan, token: str) -> NodeAdminError:
    """An error for which the same confirmation is shown once more."""
    error.extra |= {"plan": plan.to_dict(), "confirm_token": token}
    return error


def _confirm(request: HttpRequest, asked: NodeAdminError, action: str, *, force: bool) -> HttpResponse:
    plan, token = asked.extra["plan"], asked.extra["confirm_token"]
    names = [*plan["jump_hosts"], *plan["nodes"]]
    context = {
        "action": action,
        "force": force,
        "plan": plan,
        "changed": isinstance(asked, PlanChanged),
        "token": token,
        "factor": factor_field(request, about=of_confirmation(token), error=asked),
        "count": len(names),
        "names": names[:NAMED],
        "more": max(0, len(names) - NAMED),
    }
    status = asked.http_status if isinstance(asked, SecondFactorRequired | RateLimited) else 200
    return render(request, "settings/own_key_confirm.html", context, status=status)


def _refused(request: HttpRequest, error: NodeAdminError) -> HttpResponse:
    if error.http_status == 403:
        raise error
    messages.error(request, error.detail())
    return redirect("own-key")
