"""The endpoints of a node's BMC; it is set and removed by ``update-node``."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from nodes.api import inputs
from nodes.api.answers import CertificateAnswer
from nodes.api.idempotency import idempotent
from nodes.api.operation_answers import OperationAnswer
from nodes.api.schema import documented
from nodes.api.viewsets import EXAMPLE_NODE, Endpoints
from nodes.engine import bmc
from nodes.hosts.certificates import COMPARE
from nodes.permissions import get_node


class BmcEndpoints(Endpoints):
    @documented(
        "The certificate a BMC shows",
        inputs.ScanBmcInput,
        CertificateAnswer,
        example=EXAMPLE_NODE | {"url": "https://10.0.0.7"},
        description="Reaches out to the BMC, for 15 seconds at most, with no credential. It trusts nothing: "
        "compare the fingerprint and send it with update-node, as `bmc.certificate_fingerprint`. Where no "
        "Redfish service is there, the answer comes after those 15 seconds, and is the same for whatever is "
        "there instead. Needs `change_node` and `scan_host`; scans are counted for each user.",
        errors=(
            (403, "permission_denied"),
            (422, "address_denied"),
            (429, "rate_limited"),
            (502, "bmc_unreachable"),
        ),
    )
    def scan_bmc_certificate(self, request: Request) -> Response:
        data = self.read(inputs.ScanBmcInput)
        node = get_node(self.user, data["node"])
        address, shown = bmc.scan_certificate(self.actor, node, data["url"])
        return Response(
            CertificateAnswer(
                address.url,
                shown.fingerprint,
                shown.subject,
                shown.issuer,
                shown.expires_at,
                shown.vouched_for,
                shown.doubt or None,
                COMPARE,
            )
        )

    @documented(
        "Power on a node",
        inputs.NodeInput,
        OperationAnswer,
        example=EXAMPLE_NODE,
        long=True,
        description="Switches the host on through its BMC, and waits until the host's own system and libvirt "
        "answer. A host that is on already is left alone. The node stays in maintenance where it was. Needs "
        "`power_node`.",
        errors=((403, "permission_denied"), (409, "bmc_missing, node_busy")),
    )
    @idempotent
    def power_on_node(self, request: Request) -> Response:
        node = get_node(self.user, self.read(inputs.NodeInput)["node"])
        return self.accepted(bmc.power_on_node(self.actor, node, **self.tracked))
