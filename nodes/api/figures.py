"""What a node did lately: the figures of its beats, for plots."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api.history_answers import FiguresAnswer
from nodes.api.inputs import NodeInput
from nodes.api.schema import documented
from nodes.api.viewsets import Endpoints
from nodes.models import Heartbeat
from nodes.monitor.series import last_day, last_hour
from nodes.permissions import get_node

SPANS = {"hour": last_hour, "day": last_day}


class DescribeFiguresInput(NodeInput):
    span = serializers.ChoiceField(
        tuple(SPANS), default="hour", help_text=_("The last hour by beats, or the last day by minutes.")
    )


class FiguresEndpoints(Endpoints):
    @documented(
        "A node's use of CPU, memory, network and disks over time",
        DescribeFiguresInput,
        FiguresAnswer,
        example={"node": "kvm-01", "span": "hour"},
        description="What the monitor heard, as columns for a plot. Rates are a second; unknown is null.",
    )
    def describe_node_figures(self, request: Request) -> Response:
        data = self.read(DescribeFiguresInput)
        node = get_node(self.user, data["node"], columns=("name",))
        series = SPANS[data["span"]](node.pk)
        seen = Heartbeat.objects.filter(node=node.pk).values_list("seen_at", flat=True).first()
        figures = {name: list(values) for name, values in series.figures.items()}
        return Response(FiguresAnswer(node.name, data["span"], seen, list(series.times), figures))
