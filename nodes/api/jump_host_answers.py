"""What the calls about jump hosts answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nodes.models import JumpHost


@dataclass(frozen=True, slots=True)
class JumpHostAnswer:
    """A jump host. ``through`` is the one in front of it; ``node_count`` and ``jump_host_count`` say how much
    is reached through it directly. ``own_key_fingerprint`` is that of nodeadmin's key pair that it lets in,
    null for another credential."""

    name: str
    host: str
    port: int
    user: str
    host_key_type: str
    host_key_fingerprint: str
    credential_kind: str
    own_key_fingerprint: str | None
    through: str | None
    node_count: int
    jump_host_count: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: JumpHost) -> JumpHostAnswer:
        """Of a row that was counted (see :func:`jump_hosts.counted`)."""
        counts: Any = row
        return cls(
            name=row.name,
            host=row.host,
            port=row.port,
            user=row.user,
            host_key_type=row.host_key.partition(" ")[0],
            host_key_fingerprint=row.host_key_fingerprint,
            credential_kind=row.credential_kind,
            own_key_fingerprint=row.own_key.fingerprint if row.own_key is not None else None,
            through=row.jump_host.name if row.jump_host is not None else None,
            node_count=counts.node_count,
            jump_host_count=counts.behind_count,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@dataclass(frozen=True, slots=True)
class JumpHostPage:
    count: int
    results: list[JumpHostAnswer]
