"""What nodeadmin keeps: one file a thing."""

from nodes.models.audit import AuditCheckpoint, AuditHead, CountedEntry, ExportCursor, RecordedSettings
from nodes.models.autostart import HeldAutostart, MaintenanceBaseline
from nodes.models.bmc import Bmc
from nodes.models.chore import Chore
from nodes.models.confirmation import FactorProof, UsedConfirmation
from nodes.models.credential import Credential, KeyState, OwnKeyPair
from nodes.models.credential_use import CredentialUse
from nodes.models.device import Device
from nodes.models.event import Event
from nodes.models.flood import FloodKind, HostFlood
from nodes.models.grant import NodeGroupObjectPermission, NodeUserObjectPermission
from nodes.models.history import InventoryChange, SmartReading
from nodes.models.jump_host import JumpHost
from nodes.models.migration import Direction, MigrationSlot
from nodes.models.monitor import FigureBlock, Heartbeat, MonitorProcess
from nodes.models.node import TAKES_VMS, Connection, ConnectionReason, Node, NodeType, Scheduling, Status
from nodes.models.operation import (
    IdempotencyKey,
    LogLevel,
    Operation,
    OperationLogEntry,
    OperationStatus,
    OperationStep,
    StepStatus,
)
from nodes.models.role import Role, RoleAssignment, RoleScope
from nodes.models.shared_storage import DeclaredSharedStorage
from nodes.models.sign_in import SignInCount
from nodes.models.snapshot import Snapshot, SnapshotSection
from nodes.models.token import ApiToken
from nodes.models.token_limits import TokenLimits, TokenScope
from nodes.models.unfit_target import UnfitTarget
from nodes.models.user import User

__all__ = [
    "TAKES_VMS",
    "ApiToken",
    "AuditCheckpoint",
    "AuditHead",
    "Bmc",
    "Chore",
    "Connection",
    "ConnectionReason",
    "CountedEntry",
    "Credential",
    "CredentialUse",
    "DeclaredSharedStorage",
    "Device",
    "Direction",
    "Event",
    "ExportCursor",
    "FactorProof",
    "FigureBlock",
    "FloodKind",
    "Heartbeat",
    "HeldAutostart",
    "HostFlood",
    "IdempotencyKey",
    "InventoryChange",
    "JumpHost",
    "KeyState",
    "LogLevel",
    "MaintenanceBaseline",
    "MigrationSlot",
    "MonitorProcess",
    "Node",
    "NodeGroupObjectPermission",
    "NodeType",
    "NodeUserObjectPermission",
    "Operation",
    "OperationLogEntry",
    "OperationStatus",
    "OperationStep",
    "OwnKeyPair",
    "RecordedSettings",
    "Role",
    "RoleAssignment",
    "RoleScope",
    "Scheduling",
    "SignInCount",
    "SmartReading",
    "Snapshot",
    "SnapshotSection",
    "Status",
    "StepStatus",
    "TokenLimits",
    "TokenScope",
    "UnfitTarget",
    "UsedConfirmation",
    "User",
]
