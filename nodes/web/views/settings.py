"""Settings: nodeadmin's own key, the user's rights, exports, and what this server is."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from nodes import access
from nodes.engine import jump_hosts
from nodes.engine.shared_storage import visible_to
from nodes.models import ApiToken
from nodes.permissions import ADD, MANAGE_SSH, NODE_PERMISSIONS, has_for_all, model_permissions
from nodes.web.views.access import user_of


@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    everywhere = model_permissions(user)
    context = {
        # Who may add nodes may put the key on hosts; nobody else needs to see it.
        "public_key": access.key_line(access.own_key_pair()) if has_for_all(user, ADD) else "",
        "rights": [(name, name in everywhere) for name in (*NODE_PERMISSIONS, ADD)],
        "groups": user.groups.order_by("name").values_list("name", flat=True),
        "token_count": ApiToken.objects.filter(user=user, revoked_at=None).count(),
        "may_manage_ssh": has_for_all(user, MANAGE_SSH),
        "jump_host_count": jump_hosts.visible_to(user).count(),
        "sees_jump_hosts": has_for_all(user, MANAGE_SSH) or has_for_all(user, ADD),
        "declared_count": visible_to(user).count(),
        "engine": settings.NODEADMIN_ENGINE,
        "database": settings.DATABASES["default"]["ENGINE"].rpartition(".")[2],
        "stale_after_s": settings.NODEADMIN_STALE_AFTER_S,
    }
    return render(request, "settings/settings.html", context)
