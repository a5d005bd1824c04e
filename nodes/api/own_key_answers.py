"""What the calls about nodeadmin's own key pair answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class OwnKeyAnswer:
    """A key pair; ``state`` is ``current`` or ``retiring``. ``authorized_keys_line`` is the line that
    nodeadmin writes on hosts. The counts are of those that are known to let it in."""

    fingerprint: str
    state: str
    public_key: str
    authorized_keys_line: str
    node_count: int
    jump_host_count: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OwnKeyPage:
    count: int
    results: list[OwnKeyAnswer]


@dataclass(frozen=True, slots=True)
class KeyHolderAnswer:
    """A node or jump host (``kind``) that is entered with nodeadmin's key. ``has_current``: it is known to
    let the current pair in; ``old_line_left``: the line of the pair before is still in authorized_keys."""

    kind: str
    name: str
    has_current: bool
    own_key_fingerprint: str | None
    old_line_left: bool


@dataclass(frozen=True, slots=True)
class KeyHolderPage:
    """``lacking_count`` counts all that lack the current pair, those that one may not see included."""

    count: int
    lacking_count: int
    results: list[KeyHolderAnswer]


@dataclass(frozen=True, slots=True)
class RetiredKeyAnswer:
    """The current pair, and who lacked it as the old one was destroyed, by name."""

    fingerprint: str
    lacking: list[str] = field(default_factory=list)
