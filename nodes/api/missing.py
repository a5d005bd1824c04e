"""What is asked of no endpoint is answered as a problem document, too."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from nodes.api.exceptions import problem_response


@extend_schema(exclude=True)
class NoSuchEndpoint(APIView):
    """404 for any method."""

    permission_classes = ()

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.http_method_names = [request.method.lower()]
        setattr(self, request.method.lower(), self.answer)
        return super().dispatch(request, *args, **kwargs)

    def answer(self, request: Request) -> Response:
        detail = _("There is no endpoint %s. GET /api/docs lists them.") % request.path
        return problem_response(404, "not_found", _("Not found"), detail)
