"""Calls of users about a node's BMC: set, removed, its certificate shown, the node switched on.

Setting one and looking at a certificate reach out to the BMC, for ``NODEADMIN_HOST_TIMEOUT_S`` at most and
outside of any transaction; the address of a BMC is of no use to anybody before it has been tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from nodes import access, second_factor
from nodes.engine.scans import count_scan
from nodes.engine.submit import asking_user, submit
from nodes.engine.waits import waiting
from nodes.errors import BmcFailed, InvalidInput
from nodes.events import Actor, NodeChanged, publish, record, told
from nodes.hosts.bmc.system import System
from nodes.hosts.bmc_target import BmcAddress, BmcTarget, parse_bmc_url
from nodes.hosts.certificates import ShownCertificate, read_fingerprint, show_certificate
from nodes.hosts.deadlines import Clock
from nodes.hosts.redfish import is_redfish, require_redfish
from nodes.hosts.scan_answer import bmc_told_alike
from nodes.models import Bmc, IdempotencyKey, Node, Operation
from nodes.models.sealed import SecretFor
from nodes.operations.base import removed
from nodes.operations.bmc import check_bmc, has_bmc
from nodes.permissions import CHANGE, POWER, SCAN, require

BmcInput = Mapping[str, Any]
"""``url``, ``user``, ``password``, and optionally ``system`` and ``certificate_fingerprint``."""


def scan_certificate(actor: Actor, node: Node, url: str) -> tuple[BmcAddress, ShownCertificate]:
    """The certificate that a BMC shows now, for somebody who may scan and change the node. Trusts nothing.

    It is shown only of a Redfish service: the certificate of anything else is told of no more than its port.
    Raises PermissionDenied, RateLimited, InvalidInput for the address, AddressDenied, BmcUnreachable.
    """
    user = asking_user(actor)
    require(user, CHANGE, node)
    require(user, SCAN)
    address = parse_bmc_url(url)
    count_scan(actor, f"{address.host}:{address.port}")
    clock = Clock(settings.NODEADMIN_HOST_TIMEOUT_S)
    rules = access.network_rules()
    with waiting(actor), bmc_told_alike(address, clock):
        shown = show_certificate(address.host, address.port, rules=rules, timeout_s=clock.left)
        pinned = BmcTarget(address, fingerprint=read_fingerprint(shown.fingerprint), rules=rules)
        require_redfish(pinned, clock)
    return address, shown


def try_bmc(actor: Actor, node: Node, given: BmcInput) -> tuple[BmcTarget, System]:
    """Reach the BMC with what was given, and find the node's host in it. Changes nothing.

    The stored password is never used for it: otherwise who may change a node could have it sent to a machine
    of their own. What answers there is told of only where it is a Redfish service. Raises PermissionDenied,
    SecondFactorRequired, InvalidInput, AddressDenied, BmcUnreachable, BmcFailed.
    """
    require(asking_user(actor), CHANGE, node)
    second_factor.expect_fresh(actor, second_factor.CREDENTIALS, about=_about(node))
    target = BmcTarget(
        address=parse_bmc_url(given["url"]),
        user=given.get("user", ""),
        password=given.get("password", ""),
        fingerprint=_fingerprint(given.get("certificate_fingerprint", "")),
        rules=access.network_rules(),
    )
    clock = Clock(settings.NODEADMIN_HOST_TIMEOUT_S)
    with waiting(actor), bmc_told_alike(target.address, clock):
        try:
            return target, check_bmc(node, target, system=given.get("system", ""))
        except BmcFailed as error:
            shown = str(error.extra.get("shown", ""))
            if is_redfish(replace(target, fingerprint=read_fingerprint(shown)) if shown else target, clock):
                error.extra["redfish"] = True
            raise


def keep_bmc(actor: Actor, node: Node, target: BmcTarget, system: System) -> Bmc:
    """Keep a BMC that :func:`try_bmc` has reached, in place of the one before. Uses the second factor up."""
    binding = access.bmc_binding(target.address, target.user, target.fingerprint)
    with transaction.atomic():
        if not Node.objects.select_for_update().filter(pk=node.pk).exists():
            raise removed()
        second_factor.require_fresh(actor, second_factor.CREDENTIALS, about=_about(node))
        before = Bmc.objects.filter(node=node).first()
        with told():  # below
            kept, _created = Bmc.objects.update_or_create(
                node=node,
                defaults={
                    "url": target.address.url,
                    "system_path": system.path,
                    "user": target.user,
                    "secret": SecretFor(binding, {"password": target.password}) if target.user else None,
                    "certificate_fingerprint": target.fingerprint,
                },
            )
        details = {"before": _told(before), "after": _told(kept, before)}
        text = _("%(name)s: BMC set to %(url)s") % {"name": node.name, "url": kept.url}
        record("node_bmc_set", text, node=node, actor=actor, data=details)
        publish(NodeChanged(str(node.uuid), node.name))
    return kept


def remove_bmc(actor: Actor, node: Node) -> bool:
    """Forget the node's BMC and its password, which uses a second factor up; False where there was none."""
    require(asking_user(actor), CHANGE, node)
    if not has_bmc(node):
        return False
    second_factor.expect_fresh(actor, second_factor.CREDENTIALS, about=_about(node))
    with transaction.atomic():
        before = Bmc.objects.filter(node=node).first()
        if before is None:
            return False
        second_factor.require_fresh(actor, second_factor.CREDENTIALS, about=_about(node))
        details = {"before": _told(before)}
        with told():  # below
            before.delete()
        text = _("%s: BMC removed") % node.name
        record("node_bmc_removed", text, node=node, actor=actor, data=details)
        publish(NodeChanged(str(node.uuid), node.name))
    return True


def power_on_node(
    actor: Actor, node: Node, *, request_id: str = "", idempotency: IdempotencyKey | None = None
) -> Operation:
    """Ask for the node to be switched on.

    Raises PermissionDenied, SecondFactorRequired, BmcMissing, NodeBusy.
    """
    require(asking_user(actor), POWER, node)
    about = second_factor.of_call("power-on-node", node.uuid)
    second_factor.expect_fresh(actor, second_factor.POWER, about=about)
    with transaction.atomic():
        second_factor.require_fresh(actor, second_factor.POWER, about=about)
        return submit("power-on-node", actor=actor, node=node, request_id=request_id, idempotency=idempotency)


def _about(node: Node) -> str:
    """What a fresh second factor for a change of the node's BMC counts for."""
    return second_factor.of_call("update-node", node.uuid)


def _fingerprint(text: str) -> str:
    if not text:
        return ""
    try:
        return read_fingerprint(text)
    except ValueError:
        raise InvalidInput(
            _("A certificate's fingerprint is its SHA-256 in 64 hexadecimal digits, with or without colons."),
            field="bmc.certificate_fingerprint",
        ) from None


def _told(bmc: Bmc | None, before: Bmc | None = None) -> dict[str, str] | None:
    """What the record says of a BMC; of its password, which is given anew each time and compared with the one
    ``before`` by nobody, whether there is one."""
    if bmc is None:
        return None
    set_anew = "changed" if before is not None and before.secret else "set"
    return {
        "url": bmc.url,
        "user": bmc.user,
        "password": set_anew if bmc.secret else "not set",
        "system": bmc.system_path,
        "certificate_fingerprint": bmc.certificate_fingerprint,
    }
