"""All kinds of operations: an explicit table."""

from __future__ import annotations

from nodes.operations.add_node import AddNode
from nodes.operations.base import OperationKind
from nodes.operations.delete_node import DeleteNode
from nodes.operations.drain import DisableNode
from nodes.operations.power_on import PowerOnNode
from nodes.operations.reboot import RebootNode
from nodes.operations.refresh_node import RefreshNode
from nodes.operations.return_vms import EnableNode
from nodes.operations.rotate_own_key import RotateOwnKey
from nodes.operations.shutdown import ShutdownNode
from nodes.operations.update_connection import UpdateConnection

KINDS: tuple[OperationKind, ...] = (
    AddNode(),
    RefreshNode(),
    UpdateConnection(),
    DisableNode(),
    EnableNode(),
    DeleteNode(),
    RebootNode(),
    ShutdownNode(),
    PowerOnNode(),
    RotateOwnKey(),
)

PATIENT = tuple(kind.kind for kind in KINDS if kind.patient)
"""The names of the kinds that may wait for a long time."""

_BY_NAME = {kind.kind: kind for kind in KINDS}


def kind_of(name: str) -> OperationKind | None:
    """The kind of that name; None for one that a newer or older version knew."""
    return _BY_NAME.get(name)
