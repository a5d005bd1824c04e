"""What endpoints give: typed, and the source of the schema's components.

Built from rows that were loaded before; nothing here queries. Units stand in the names, unknown is null,
times are RFC 3339 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from nodes.hosts.certificates import write_fingerprint
from nodes.models import Bmc, Credential, Event, HeldAutostart, HostFlood, Node, SnapshotSection
from nodes.operations.node_state.meaning import meaning_of

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SchedulingAnswer:
    """What people decided about the node; ``meaning`` says in one sentence what that does, and does not."""

    state: str
    reason: str
    by: str | None
    since: datetime | None
    meaning: str | None


@dataclass(frozen=True, slots=True)
class HeldAutostartAnswer:
    """A VM whose autostart nodeadmin has switched off on the host while the node is in maintenance.

    ``due_at`` is null while it is held, then since when it is to be put back, which waits for libvirt.
    """

    vm: str
    vm_uuid: UUID
    since: datetime
    operation: UUID | None
    due_at: datetime | None

    @classmethod
    def of(cls, row: HeldAutostart) -> HeldAutostartAnswer:
        return cls(row.vm_name, row.vm_uuid, row.since, row.operation_id, row.due_at)


@dataclass(frozen=True, slots=True)
class FloodAnswer:
    """What the host sends too much of just now: how many beyond the limit. They are counted, and not kept."""

    kind: str
    since: datetime
    last_at: datetime
    count: int

    @classmethod
    def of(cls, row: HostFlood) -> FloodAnswer:
        return cls(row.kind, row.since, row.last_at, row.count)


@dataclass(frozen=True, slots=True)
class ConnectionAnswer:
    """What we see of the host. ``reason`` is null while it is online."""

    state: str
    reason: str | None
    detail: str
    since: datetime | None
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """A node in a list. Figures are of the newest inventory or heartbeat.

    ``flood`` is what the host sends too much of just now; null is the rule.
    """

    name: str
    uuid: UUID
    uri: str
    jump_host: str | None
    type: str
    labels: Json
    status: str
    scheduling: str
    connection: str
    reason: str | None
    flood: str | None
    cpu_model: str | None
    cpu_threads: int | None
    cpu_used_percent: float | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    memory_used_percent: float | None
    vm_count: int | None
    vm_running_count: int | None
    pool_count: int | None
    uptime_s: float | None
    last_seen_at: datetime | None
    observed_at: datetime | None
    age_s: float | None
    stale: bool
    problem_count: int | None

    @classmethod
    def of(cls, node: Node) -> NodeAnswer:
        uptime = node.uptime
        return cls(
            name=node.name,
            uuid=node.uuid,
            uri=node.uri,
            jump_host=node.jump_host.name if node.jump_host is not None else None,
            type=node.node_type,
            labels=node.labels,
            status=node.status.value,
            scheduling=node.scheduling,
            connection=node.connection,
            reason=node.status_reason or None,
            flood=node.flood or None,
            cpu_model=node.cpu_model or None,
            cpu_threads=node.cpu_threads,
            cpu_used_percent=node.cpu_used_percent,
            memory_total_bytes=node.memory_total_bytes,
            memory_used_bytes=node.memory_used_bytes,
            memory_used_percent=node.memory_used_percent,
            vm_count=node.vm_count,
            vm_running_count=node.vm_running_count,
            pool_count=node.pool_count,
            uptime_s=uptime.total_seconds() if uptime is not None else None,
            last_seen_at=node.last_seen_at,
            observed_at=node.observed_at,
            age_s=node.age_s,
            stale=node.is_stale,
            problem_count=node.problem_count,
        )


@dataclass(frozen=True, slots=True)
class VersionsAnswer:
    """Software on the host, as its newest inventory has it."""

    libvirt: str | None
    hypervisor: str | None
    kernel: str | None
    os: str | None


@dataclass(frozen=True, slots=True)
class BmcAnswer:
    """The node's BMC. ``certificate_fingerprint`` (SHA-256) is null where an authority vouches for it."""

    url: str
    user: str | None
    system: str
    certificate_fingerprint: str | None

    @classmethod
    def of(cls, bmc: Bmc) -> BmcAnswer:
        pinned = bmc.certificate_fingerprint
        return cls(bmc.url, bmc.user or None, bmc.system_path, write_fingerprint(pinned) if pinned else None)


@dataclass(frozen=True, slots=True)
class CertificateAnswer:
    """The certificate that a BMC shows. Nothing is trusted by asking.

    ``vouched_for`` says whether an authority that nodeadmin trusts stands behind it, ``doubt`` why not.
    """

    url: str
    certificate_fingerprint: str
    subject: str | None
    issuer: str | None
    expires_at: datetime | None
    vouched_for: bool
    doubt: str | None
    how_to_compare: str


@dataclass(frozen=True, slots=True)
class NodeDetail:
    """One node. ``host_key_fingerprint`` is null for nodes that need none, ``jump_host`` for those that are
    reached directly."""

    name: str
    uuid: UUID
    uri: str
    jump_host: str | None
    type: str
    labels: Json
    notes: str
    status: str
    scheduling: SchedulingAnswer
    held_autostart: list[HeldAutostartAnswer]
    connection: ConnectionAnswer
    floods: list[FloodAnswer]
    virtualization_type: str | None
    versions: VersionsAnswer
    host_model: str | None
    vm_count: int | None
    vm_running_count: int | None
    pool_count: int | None
    last_heartbeat_at: datetime | None
    boot_id: str | None
    booted_at: datetime | None
    migration_address: str | None
    migration_address_forced: bool
    host_key_fingerprint: str | None
    credential_kind: str | None
    credential_uses_today: int
    """How often nodeadmin itself has opened the node's secrets today (UTC); people's openings are events."""
    bmc: BmcAnswer | None
    permissions: list[str]
    created_at: datetime
    observed_at: datetime | None
    age_s: float | None
    stale: bool
    problems: list[Json]

    @classmethod
    def of(
        cls,
        node: Node,
        permissions: Iterable[str],
        problems: list[Json],
        credential: Credential | None,
        bmc: Bmc | None,
        held: Iterable[HeldAutostart] = (),
        floods: Iterable[HostFlood] = (),
    ) -> NodeDetail:
        by = node.scheduling_by
        meaning = meaning_of(node.scheduling)
        return cls(
            name=node.name,
            uuid=node.uuid,
            uri=node.uri,
            jump_host=node.jump_host.name if node.jump_host is not None else None,
            type=node.node_type,
            labels=node.labels,
            notes=node.notes,
            status=node.status.value,
            scheduling=SchedulingAnswer(
                node.scheduling,
                node.scheduling_reason,
                by.get_username() if by is not None else None,
                node.scheduling_since,
                str(meaning) if meaning is not None else None,
            ),
            held_autostart=[HeldAutostartAnswer.of(row) for row in held],
            connection=ConnectionAnswer(
                node.connection,
                node.status_reason or None,
                node.connection_detail,
                node.connection_since,
                node.last_seen_at,
            ),
            floods=[FloodAnswer.of(row) for row in floods],
            virtualization_type=node.virtualization_type or None,
            versions=VersionsAnswer(
                node.libvirt_version or None,
                node.hypervisor_version or None,
                node.kernel_release or None,
                node.os_name or None,
            ),
            host_model=node.host_model or None,
            vm_count=node.vm_count,
            vm_running_count=node.vm_running_count,
            pool_count=node.pool_count,
            last_heartbeat_at=node.last_seen_at,
            boot_id=node.boot_id or None,
            booted_at=node.booted_at,
            migration_address=node.migration_address or None,
            migration_address_forced=node.migration_address_forced,
            host_key_fingerprint=node.host_key_fingerprint or None,
            credential_kind=credential.kind if credential is not None else None,
            credential_uses_today=getattr(credential, "uses_today", None) or 0,
            bmc=BmcAnswer.of(bmc) if bmc is not None else None,
            permissions=sorted(permissions),
            created_at=node.created_at,
            observed_at=node.observed_at,
            age_s=node.age_s,
            stale=node.is_stale,
            problems=problems,
        )


@dataclass(frozen=True, slots=True)
class SectionAnswer:
    """One section of a node's inventory. ``facts`` is null where there is none yet; problems say why."""

    node: str
    uuid: UUID
    observed_at: datetime | None
    age_s: float | None
    stale: bool
    problems: list[Json]
    facts: Json | None

    @classmethod
    def of(cls, node: Node, section: SnapshotSection | None, facts: Json | None) -> SectionAnswer:
        problems = section.problems if section is not None else []
        return cls(node.name, node.uuid, node.observed_at, node.age_s, node.is_stale, problems, facts)


@dataclass(frozen=True, slots=True)
class TargetAnswer:
    """What an event was about, where that is no node: a user, a role, a token …"""

    type: str
    id: str
    name: str

    @classmethod
    def of(cls, event: Event) -> TargetAnswer | None:
        if not event.target_type:
            return None
        return cls(event.target_type, event.target_id, event.target_name)


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """One entry of the record."""

    id: int
    number: int | None
    category: str
    time: datetime
    kind: str
    severity: str
    node: str | None
    node_uuid: str | None
    user: str | None
    source_ip: str | None
    via: str
    token: str | None
    target: TargetAnswer | None
    operation: UUID | None
    message: str
    data: Json

    @classmethod
    def of(cls, event: Event) -> EventAnswer:
        return cls(
            event.pk,
            event.number,
            event.category,
            event.created_at,
            event.kind,
            event.severity,
            event.node_name or None,
            event.node_ref or None,
            event.user_name or None,
            event.source_ip,
            event.via,
            event.token_name or None,
            TargetAnswer.of(event),
            UUID(event.operation_ref) if event.operation_ref else event.operation_id,
            event.message,
            event.data,
        )


@dataclass(frozen=True, slots=True)
class HostKeyAnswer:
    type: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class MissingHostKeysAnswer:
    """Key types of which it is not known whether the host has a key; ``code`` and ``detail`` say why."""

    types: list[str]
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class HostKeysAnswer:
    """The keys that the host shows. Nothing is trusted by asking.

    ``complete`` is false where the host did not answer for all key types; ``missing`` says for which.
    """

    host: str
    port: int
    keys: list[HostKeyAnswer]
    how_to_compare: str
    complete: bool
    missing: list[MissingHostKeysAnswer]


@dataclass(frozen=True, slots=True)
class NodePage:
    count: int
    results: list[NodeAnswer]


@dataclass(frozen=True, slots=True)
class EventPage:
    count: int
    results: list[EventAnswer]


@dataclass(frozen=True, slots=True)
class ProblemAnswer:
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[Json]
    remedy: str | None = None
    retryable: bool | None = None
