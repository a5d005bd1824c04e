"""Errors that nodeadmin raises at its boundaries.

Every error has a stable ``code`` (part of the API's contract), the HTTP status it becomes, whether trying
again can help, and a message that is safe to show: it never carries a secret, a traceback or text that a
host sent unasked. What nobody expected is not one of these; it is logged and answered with a reference.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def shown(text: str) -> str:
    """``text`` of a message, with what drives a terminal or turns the direction of a line written out: it may
    quote a host. Of what has been shown already it changes nothing."""
    if not isinstance(text, str) or text.isprintable():
        return text
    return "".join(_written_out(c) if unicodedata.category(c) in _UNSEEN and c != "\n" else c for c in text)


def _written_out(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class NodeAdminError(Exception):
    """Base of all expected failures.

    ``message`` says what happened, ``remedy`` what to do about it, ``field`` names the input that caused it
    (or ""), ``errors`` further field errors, and ``extra`` members that the problem document carries beside
    the standard ones (RFC 9457, section 3.2).
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    title: ClassVar[str] = "The request could not be carried out"

    def __init__(
        self,
        message: str = "",
        *,
        remedy: str = "",
        field: str = "",
        errors: Sequence[Mapping[str, str]] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = shown(message or self.title)
        self.remedy = shown(remedy)
        self.field = field
        self.errors: tuple[Mapping[str, str], ...] = tuple(errors)
        self.extra: dict[str, Any] = dict(extra or {})
        super().__init__(self.message)

    def detail(self) -> str:
        """Message and remedy as one text."""
        return f"{self.message} {self.remedy}".strip()


def by_code(code: str) -> type[NodeAdminError]:
    """The class of the errors with this ``code``; NodeAdminError where this version knows none."""
    waiting: list[type[NodeAdminError]] = [NodeAdminError]
    while waiting:
        kind = waiting.pop()
        if vars(kind).get("code") == code:
            return kind
        waiting += kind.__subclasses__()
    return NodeAdminError


class InternalError(NodeAdminError):
    """What nobody expected, as a later run of an operation tells of it."""

    code, http_status = "internal_error", 500
    title = "Something went wrong"


class InvalidInput(NodeAdminError):
    code, http_status = "invalid_input", 400
    title = "The request has an invalid value"


class InvalidUri(NodeAdminError):
    code, http_status = "invalid_uri", 400
    title = "The address of the node is not supported"


class InvalidCursor(NodeAdminError):
    code, http_status = "invalid_cursor", 400
    title = "The cursor is none that was given out"


class CursorGone(NodeAdminError):
    code, http_status = "cursor_gone", 410
    title = "The place that the cursor names is no longer there"


class UnknownNode(NodeAdminError):
    code, http_status = "unknown_node", 404
    title = "There is no such node"


class UnknownOperation(NodeAdminError):
    code, http_status = "unknown_operation", 404
    title = "There is no such operation"


class NodeExists(NodeAdminError):
    code, http_status = "node_exists", 409
    title = "The name is taken"


class DuplicateHost(NodeAdminError):
    code, http_status = "duplicate_host", 409
    title = "This host is a node already"


class UnknownJumpHost(NodeAdminError):
    code, http_status = "unknown_jump_host", 404
    title = "There is no such jump host"


class JumpHostExists(NodeAdminError):
    code, http_status = "jump_host_exists", 409
    title = "The name is taken"


class JumpHostInUse(NodeAdminError):
    code, http_status = "jump_host_in_use", 409
    title = "The jump host is in use"


class OwnKeyNeeded(NodeAdminError):
    """``extra``: the hosts that still need the old key pair, by name."""

    code, http_status = "own_key_needed", 409
    title = "Hosts still need the old key pair"


class OwnKeyNotEverywhere(NodeAdminError):
    """``extra``: ``lacking`` and ``old_line_left``, by name."""

    code, http_status, retryable = "own_key_not_everywhere", 409, True
    title = "Not every host has the new key"


class NodeBusy(NodeAdminError):
    code, http_status, retryable = "node_busy", 409, True
    title = "Another operation is changing this node"


class AutostartHeld(NodeAdminError):
    """``extra``: the ``vms`` whose autostart could not be put back, by name."""

    code, http_status, retryable = "autostart_held", 502, True
    title = "Autostart could not be put back"


class ConfirmationRequired(NodeAdminError):
    """``extra``: the ``plan``, the ``confirm_token`` that agrees to it, and when that ``expires_at``."""

    code, http_status = "confirmation_required", 428
    title = "This needs a confirmation"


class ConfirmationInvalid(NodeAdminError):
    code, http_status = "confirmation_invalid", 409
    title = "The confirmation does not count"


class PlanChanged(NodeAdminError):
    """``extra``: the new ``plan``, the ``changes`` in words, and, at a call, another ``confirm_token``."""

    code, http_status = "plan_changed", 409
    title = "The plan is no longer the one that was confirmed"


class PlanBlocked(NodeAdminError):
    """``extra``: the ``plan``, whose blockers say what stands in the way. So with its subclasses."""

    code, http_status = "plan_blocked", 409
    title = "Something stands in the way"


class NodeHasRunningVms(PlanBlocked):
    code = "node_has_running_vms"
    title = "VMs run on the node"


class VmStateUnknown(PlanBlocked):
    code = "vm_state_unknown"
    title = "The state of the VMs cannot be told"


class LastEligibleNode(PlanBlocked):
    code = "last_eligible_node"
    title = "No other node could take over"


class BootIdUnreadable(PlanBlocked):
    """Without it nothing proves that a host has been rebooted, and the command could reach a later boot."""

    code = "boot_id_unreadable"
    title = "The host's boot ID cannot be read"


class ShutdownInhibited(PlanBlocked):
    code = "shutdown_inhibited"
    title = "Somebody keeps the host from going down"


class ShutdownAlreadyScheduled(PlanBlocked):
    code = "shutdown_already_scheduled"
    title = "The host is about to go down by itself"


class PowerCommandMissing(PlanBlocked):
    code = "power_command_missing"
    title = "The host has no systemctl"


class ConfirmationExpired(NodeAdminError):
    code, http_status = "confirmation_expired", 409
    title = "The confirmation is too old to act on"


class VmStepsFailed(NodeAdminError):
    code, http_status, retryable = "vm_steps_failed", 409, True
    title = "Not every VM could be dealt with"


class IdempotencyKeyReused(NodeAdminError):
    code, http_status = "idempotency_key_reused", 422
    title = "The idempotency key belongs to another request"


class PermissionDenied(NodeAdminError):
    code, http_status = "permission_denied", 403
    title = "You may see this, but not do it"


class SecondFactorRequired(NodeAdminError):
    """``extra``: ``enrol``, true where the user has no second factor yet; ``wrong``, true where one was given
    that does not count."""

    code, http_status = "second_factor_required", 403
    title = "This needs a second factor"


class TrustedLabel(PermissionDenied):
    """Permissions hang on the label: who may change a node is not to give any by that."""

    code = "trusted_label"
    title = "Permissions depend on this label"


class RateLimited(NodeAdminError):
    """``extra``: after how many seconds to ask again, ``retry_after_s``; answers send it as Retry-After."""

    code, http_status, retryable = "rate_limited", 429, True
    title = "Too many requests"


class ServerBusy(NodeAdminError):
    """``extra``: ``retry_after_s``, as of RateLimited."""

    code, http_status, retryable = "server_busy", 503, True
    title = "The server is busy"


class DatabaseUnavailable(ServerBusy):
    code = "database_unavailable"
    title = "The database does not answer in time"


class HostError(NodeAdminError):
    """A host did not do what was asked of it. ``layer`` names the step of reaching it that failed."""

    layer: ClassVar[str] = "reach"


class HostUnreachable(HostError):
    code, http_status, retryable = "host_unreachable", 502, True
    title = "The host cannot be reached"
    layer = "reach"


class AddressDenied(HostUnreachable):
    """The settings forbid to connect to this address; nothing was sent to it."""

    code, http_status, retryable = "address_denied", 422, False
    title = "nodeadmin may not connect to this address"


class HostTimeout(HostError):
    code, http_status, retryable = "timeout", 504, True
    title = "The host did not answer in time"
    layer = "reach"


class HostBudgetExceeded(HostError):
    """The host sends, holds or keeps waiting more than one host may; the message says what, and how much."""

    code, http_status, retryable = "host_budget_exceeded", 502, True
    title = "The host takes more than one host may"
    layer = "reach"


class HostKeyRequired(HostError):
    code, http_status = "host_key_required", 422
    title = "The host's key has not been confirmed"
    layer = "host_key"


class HostKeyMismatch(HostError):
    code, http_status = "host_key_mismatch", 409
    title = "The host shows another key than the one confirmed"
    layer = "host_key"


class AuthenticationFailed(HostError):
    code, http_status = "authentication_failed", 422
    title = "The host refused the credential"
    layer = "authenticate"


class CredentialUnreadable(HostError):
    code, http_status = "credential_unreadable", 500
    title = "The stored credential cannot be opened"
    layer = "authenticate"


class JumpHostError(HostError):
    """A jump host, and not the host behind it. ``extra["jump_host"]`` is its name."""

    code, http_status = "jump_host_failed", 502
    title = "The jump host does not connect to the host"
    layer = "jump_host"


class JumpHostUnreachable(JumpHostError):
    code, retryable = "jump_host_unreachable", True
    title = "The jump host cannot be reached"


class JumpHostKeyMismatch(JumpHostError):
    code, http_status = "jump_host_key_mismatch", 409
    title = "The jump host shows another key than the one confirmed"


class JumpHostAuthFailed(JumpHostError):
    code, http_status = "jump_host_auth_failed", 422
    title = "The jump host refused the credential"


class JumpHostForwardingRefused(JumpHostError):
    code, http_status = "jump_host_forwarding_refused", 422
    title = "The jump host does not allow the connection to the host"


class CredentialNotForTarget(HostError):
    """``extra["differs"]``: in what the target is not the one that the credential was stored for."""

    code, http_status = "credential_not_for_target", 422
    title = "The stored credential is for another target"
    layer = "authenticate"


class InsufficientRightsOnHost(HostError):
    code, http_status = "insufficient_rights_on_host", 422
    title = "The user may not do this on the host"
    layer = "rights"


class UndeclaredCommand(HostError):
    """A command was to go through sudo that is not in the table of nodes/inventory/privileged.py."""

    code, http_status = "undeclared_command", 422
    title = "The command is not run through sudo"
    layer = "rights"


class LoginShellUnusable(HostError):
    """The user's login shell ran no command; the message has its own words. Nothing was done on the host."""

    code, http_status = "login_shell_unusable", 422
    title = "The user's login shell does not run commands"
    layer = "rights"


class LibvirtUnavailable(HostError):
    code, http_status, retryable = "libvirt_unavailable", 502, True
    title = "libvirt does not answer on the host"
    layer = "libvirt"


class ProbeFailed(HostError):
    code, http_status, retryable = "probe_failed", 502, True
    title = "The host's inventory could not be taken"
    layer = "probe"


class JournalUnavailable(HostError):
    code, http_status, retryable = "journal_unavailable", 502, True
    title = "The host's journal cannot be read"
    layer = "journal"


class MigrationFailed(HostError):
    """A live migration did not succeed; the message has libvirt's words. The VM was not stopped for it.

    ``refusal`` is the stable word for why the target refused the VM, "" where it is not known that it did.
    """

    refusal: str = ""

    code, http_status, retryable = "migration_failed", 502, True
    title = "The VM could not be migrated"
    layer = "libvirt"


class MigrationTimeout(MigrationFailed):
    code, http_status = "migration_timeout", 504
    title = "The migration did not end within its time and was aborted"


class MigrationNotConverging(MigrationFailed):
    """The guest changes its memory faster than it is sent: told before the migration's time was over."""

    code, http_status = "migration_not_converging", 409
    title = "The migration does not converge and was aborted"


class MigrationTlsFailed(MigrationFailed):
    """QEMU could not encrypt the migration. It is never tried again without encryption."""

    code, http_status = "migration_tls_failed", 502
    title = "The migration could not be encrypted"


class MigrationAborted(MigrationFailed):
    code, http_status = "migration_aborted", 409
    title = "The migration was aborted as asked"


class VmInBothPlaces(HostError):
    """A VM is active on two hosts, and no rule says which of them is the right one. Nothing was touched."""

    code, http_status = "vm_in_both_places", 409
    title = "The VM is active on both hosts"
    layer = "libvirt"


class VmLost(HostError):
    """A VM that was to be active is so on neither host. Nothing was touched."""

    code, http_status = "vm_lost", 409
    title = "The VM runs on neither host"
    layer = "libvirt"


class BootIdChanged(HostError):
    """The host has been rebooted since its boot ID was recorded, so no power command was sent."""

    code, http_status = "boot_id_changed", 409
    title = "The host has been rebooted in the meantime"
    layer = "power"


class CommandTooLate(HostError):
    """The power command reached the host later than it may, and was not carried out."""

    code, http_status, retryable = "command_too_late", 504, True
    title = "The command reached the host too late"
    layer = "power"


class PowerRefused(HostError):
    code, http_status = "power_refused", 502
    title = "The host refused the power command"
    layer = "power"


class BmcMissing(NodeAdminError):
    code, http_status = "bmc_missing", 409
    title = "The node has no BMC"


class BmcFailed(HostError):
    """A BMC did not do what was asked of it; ``extra["reason"]`` is the stable word for why."""

    code, http_status = "bmc_failed", 502
    title = "The BMC did not do what was asked"
    layer = "bmc"


class BmcUnreachable(BmcFailed):
    code, retryable = "bmc_unreachable", True
    title = "The BMC cannot be reached"


class BmcBusy(BmcUnreachable):
    """The BMC answers, but says "later" or breaks off; the message counts what was seen."""

    code = "bmc_busy"
    title = "The BMC is busy"


class VmDidNotStop(HostError):
    code, http_status, retryable = "vm_did_not_stop", 504, True
    title = "The VM did not shut down in time"
    layer = "libvirt"


class VmDidNotStart(HostError):
    code, http_status, retryable = "vm_did_not_start", 502, True
    title = "The VM did not start"
    layer = "libvirt"


class HostStayedUp(HostError):
    code, http_status, retryable = "host_stayed_up", 504, True
    title = "The host took the command and went on running"
    layer = "power"


class HostStayedAway(HostError):
    code, http_status, retryable = "host_stayed_away", 504, True
    title = "The host has not come back in time"
    layer = "power"


class ShutdownUnproved(HostError):
    code, http_status = "shutdown_unproved", 502
    title = "Whether the host is off cannot be told"
    layer = "power"
