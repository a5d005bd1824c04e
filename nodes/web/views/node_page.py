"""What all tabs of a node's page share: its head, its tabs, and what is wrong with it right now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from nodes import permissions
from nodes.inventory.registry import SECTIONS
from nodes.inventory.section import Section
from nodes.models import Device, HeldAutostart, Node, Operation, SnapshotSection
from nodes.models.operation import UNFINISHED
from nodes.operations.node_state.flood_words import lasting
from nodes.operations.node_state.meaning import MAINTENANCE
from nodes.web import tones
from nodes.web.node_actions import Button, buttons_of
from nodes.web.operation_titles import title_of as title_of_operation
from nodes.web.views.access import user_of
from nodes.web.waiting import words_of

OVERVIEW = "summary"
"""The section that the first tab shows."""


@dataclass(frozen=True, slots=True)
class Tab:
    label: str
    url: str
    here: bool
    problems: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong right now, and where it shows."""

    tone: str
    words: str
    url: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NodePage:
    """A node as its page shows it. Built with a fixed number of queries."""

    node: Node
    may: frozenset[str]
    tabs: tuple[Tab, ...]
    troubles: tuple[Trouble, ...]
    problems: dict[str, list[dict[str, Any]]]
    refreshing: Operation | None
    waiting: str
    """What the refresh waits for, in words; "" where it runs or there is none."""
    busy: Operation | None
    """The exclusive operation that has the node just now."""
    actions: tuple[Button, ...]
    crumbs: tuple[tuple[str, str], ...]
    unread: tuple[Tab, ...]
    """The sections of which not everything could be read, with the number of problems."""
    held_autostart: tuple[str, ...]
    """The VMs whose autostart is held on the host, or waits to be put back."""

    @property
    def maintenance_means(self) -> str:
        return str(MAINTENANCE)

    @property
    def may_change(self) -> bool:
        return permissions.CHANGE in self.may

    @property
    def busy_title(self) -> str:
        return title_of_operation(self.busy) if self.busy is not None else ""

    @property
    def maintenance_by(self) -> str:
        """Who has set the node aside; asked for only where a page shows it."""
        by = self.node.scheduling_by
        return by.get_username() if by is not None else ""

    @property
    def rights(self) -> list[str]:
        return sorted(self.may)


def load(request: HttpRequest, name: str, here: str, permission: str = permissions.VIEW) -> NodePage:
    """The page's common part, with ``here`` the slug of the tab. Raises UnknownNode, PermissionDenied."""
    user = user_of(request)
    node = permissions.get_node(user, name, permission)
    rows = SnapshotSection.objects.filter(snapshot=node.snapshot_id).values_list("slug", "problems")
    problems = {slug: found for slug, found in rows if found}
    unfinished = list(Operation.objects.filter(node=node, status__in=UNFINISHED).defer("secret", "plan"))
    refreshing = next((found for found in unfinished if found.kind == "refresh-node"), None)
    # A refresh excludes only another refresh: it keeps nobody from doing anything with the node.
    busy = next((found for found in unfinished if found.exclusive and found is not refreshing), None)
    crumbs = ((_("Nodes"), reverse("node-list")), (node.name, ""))
    may = permissions.permissions_on(user, node)
    tabs = _tabs(node, here, problems, may)
    return NodePage(
        node,
        may,
        tabs,
        _worst_first((*_troubles(node), *(() if here == "disks" else _disk_troubles(node)))),
        problems,
        refreshing,
        words_of(refreshing),
        busy,
        buttons_of(node, may, busy),
        crumbs,
        tuple(tab for tab in tabs if tab.problems and not tab.here) if here == OVERVIEW else (),
        tuple(HeldAutostart.objects.filter(node=node).values_list("vm_name", flat=True)),
    )


def _tabs(
    node: Node, here: str, problems: dict[str, list[dict[str, Any]]], may: frozenset[str]
) -> tuple[Tab, ...]:
    inventory = [
        Tab(
            title_of(section),
            section_url(node, section.slug),
            here == section.slug,
            len(problems.get(section.slug, ())),
        )
        for section in SECTIONS
        if section.tab
    ]
    logs = (("logs", _("Logs"), "node-logs"),) if permissions.VIEW_LOGS in may else ()
    others = (
        *logs,
        ("operations", _("Operations"), "node-operations"),
        ("changes", _("Changes"), "node-changes"),
        ("events", _("Events"), "node-events"),
        ("settings", _("Settings"), "node-settings"),
    )
    return (
        *inventory,
        *(Tab(label, reverse(route, args=[node.name]), here == slug) for slug, label, route in others),
    )


def title_of(section: Section[Any]) -> str:
    """A section's title in the reader's language; the registry knows the English one alone."""
    titles = {
        "summary": _("Overview"),
        "pci": _("PCI"),
        "usb": _("USB"),
        "net": _("Network"),
        "disks": _("Disks"),
        "vms": _("VMs"),
        "pools": _("Storage pools"),
    }
    return titles.get(section.slug, section.title)


def section_url(node: Node, slug: str) -> str:
    """Where a section is shown: the summary on the node's first page."""
    if slug == OVERVIEW:
        return reverse("node-detail", args=[node.name])
    return reverse("node-section", args=[node.name, slug])


def _worst_first(troubles: Iterable[Trouble]) -> tuple[Trouble, ...]:
    return tuple(sorted(troubles, key=lambda trouble: ("bad", "unknown", "warn").index(trouble.tone)))


def _disk_troubles(node: Node) -> Iterator[Trouble]:
    """Disks that fail or wear out, by the index of devices."""
    disks = Device.objects.filter(node=node, section="disks", health__in=("failed", "warning"))
    rows = disks.order_by("health", "key").values_list("key", "model", "serial", "health")
    for key, model, serial, health in rows:
        failed = health == "failed"
        words = (_("Disk %s is failing") if failed else _("Disk %s needs a look")) % (model or key)
        yield Trouble("bad" if failed else "warn", words, section_url(node, "disks"), serial)


def _troubles(node: Node) -> Iterator[Trouble]:
    """What needs a look in the node as a whole."""
    shown = tones.of_node(node)
    settings_url = reverse("node-settings", args=[node.name])
    if node.status_reason:
        tone = "unknown" if shown.tone == tones.Tone.UNKNOWN else "bad"
        yield Trouble(tone, shown.reason or shown.words, settings_url, node.connection_detail)
    if node.flood:
        events_url = reverse("node-events", args=[node.name])
        for flood in node.floods.all():
            words = _("The host sends too much: %s") % flood.get_kind_display()
            yield Trouble("warn", words, events_url, lasting(node, flood))
    if node.observed_at is None:
        yield Trouble("unknown", _("No inventory has been taken yet"), section_url(node, OVERVIEW))
    elif node.is_stale:
        yield Trouble("warn", _("The inventory is old"), section_url(node, OVERVIEW))


def facts_of(node: Node, *slugs: str) -> dict[str, dict[str, Any] | None]:
    """The facts of some sections out of the newest snapshot, in one query; None where there are none."""
    rows = SnapshotSection.objects.filter(snapshot=node.snapshot_id, slug__in=slugs)
    found = dict(rows.values_list("slug", "facts"))
    return {slug: found.get(slug) for slug in slugs}
