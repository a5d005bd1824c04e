"""/api/: every endpoint by its name. What takes POST says so to anything else with 405."""

from __future__ import annotations

from django.urls import path, re_path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from nodes.api.bmc import BmcEndpoints
from nodes.api.figures import FiguresEndpoints
from nodes.api.history import HistoryEndpoints
from nodes.api.inventory import InventoryEndpoints
from nodes.api.jump_hosts import JumpHostEndpoints
from nodes.api.logs import LogEndpoints
from nodes.api.missing import NoSuchEndpoint
from nodes.api.operation_log import OperationLogEndpoints
from nodes.api.own_keys import OwnKeyEndpoints
from nodes.api.second_factor import SecondFactorEndpoints
from nodes.api.service import ServiceEndpoints
from nodes.api.shared_storage import SharedStorageEndpoints
from nodes.api.viewsets import EventEndpoints, NodeEndpoints, OperationEndpoints
from nodes.inventory.registry import SECTIONS

ENDPOINTS = {
    NodeEndpoints: (
        "scan-host-key",
        "add-node",
        "list-nodes",
        "describe-node",
        "refresh-node",
        "update-node",
    ),
    ServiceEndpoints: (
        "enable-node",
        "disable-node",
        "reboot-node",
        "shutdown-node",
        "delete-node",
        "export-node",
    ),
    SharedStorageEndpoints: (
        "declare-shared-storage",
        "update-shared-storage",
        "withdraw-shared-storage",
        "list-shared-storage",
    ),
    JumpHostEndpoints: (
        "list-jump-hosts",
        "describe-jump-host",
        "add-jump-host",
        "update-jump-host",
        "remove-jump-host",
    ),
    OwnKeyEndpoints: ("list-own-keys", "describe-own-key", "rotate-own-key", "retire-own-key"),
    BmcEndpoints: ("scan-bmc-certificate", "power-on-node"),
    InventoryEndpoints: tuple(f"describe-node-{section.slug}" for section in SECTIONS),
    OperationEndpoints: ("list-operations", "describe-operation", "cancel-operation", "retry-operation"),
    OperationLogEndpoints: ("list-operation-log",),
    EventEndpoints: ("list-events",),
    FiguresEndpoints: ("describe-node-figures",),
    LogEndpoints: ("describe-node-logs", "list-log-sources", "describe-log-entry"),
    SecondFactorEndpoints: ("describe-second-factor", "verify-second-factor"),
    HistoryEndpoints: ("list-inventory-changes", "search-devices"),
}

urlpatterns = [
    path(name, viewset.as_view({"post": name.replace("-", "_")}), name=f"api-{name}")
    for viewset, names in ENDPOINTS.items()
    for name in names
]
urlpatterns += [
    path("schema", SpectacularJSONAPIView.as_view(), name="api-schema"),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="api-schema"), name="api-docs"),
    re_path(r"^.*\Z", NoSuchEndpoint.as_view(), name="api-missing"),
]
