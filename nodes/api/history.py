"""What changed, and where a device is: endpoints over all nodes that the user may see."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api import inputs
from nodes.api.history_answers import ChangeAnswer, ChangePage, DeviceAnswer, DevicePage
from nodes.api.schema import documented
from nodes.api.viewsets import Endpoints, page_of, within
from nodes.models import Device, InventoryChange
from nodes.permissions import VIEW, get_node, has_for_all, nodes_for
from nodes.selection import select_devices


class HistoryEndpoints(Endpoints):
    @documented(
        "Changes in the hardware and its configuration, newest first",
        inputs.ListChangesInput,
        ChangePage,
        example={"node": "kvm-01", "section": "disks", "since": "2026-01-01T00:00:00Z"},
        description="What differs between two inventories in turn: items that came and went, and facts "
        "with their value before and after. Counters and temperatures are no changes.",
    )
    def list_inventory_changes(self, request: Request) -> Response:
        data = self.read(inputs.ListChangesInput)
        rows = InventoryChange.objects.select_related("node")
        if "node" in data:
            rows = rows.filter(node=get_node(self.user, data["node"]))
        elif not has_for_all(self.user, VIEW):
            rows = rows.filter(node__in=nodes_for(self.user))
        equal = {"section": "section", "kind": "kind", "subject": "subject"}
        count, page = page_of(within(rows, data, equal, time="observed_at"), data)
        return Response(ChangePage(count, [ChangeAnswer.of(row) for row in page]))

    @documented(
        "Devices across nodes",
        inputs.SearchDevicesInput,
        DevicePage,
        example={"kind": "gpu", "text": "nvidia", "free": True},
        description="PCI functions, USB devices and disks of every node's newest inventory.",
    )
    def search_devices(self, request: Request) -> Response:
        data = self.read(inputs.SearchDevicesInput)
        rows = Device.objects.select_related("node").defer("text")
        if "node" in data:
            rows = rows.filter(node=get_node(self.user, data["node"]))
        elif not has_for_all(self.user, VIEW):
            rows = rows.filter(node__in=nodes_for(self.user))
        count, page = page_of(select_devices(rows, data), data)
        return Response(DevicePage(count, [DeviceAnswer.of(row) for row in page]))
