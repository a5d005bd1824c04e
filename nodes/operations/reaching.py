"""The way to a host, one visible step after another: address, host key, credential."""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import HostKeyMismatch
from nodes.hosts.channel_check import try_channels
from nodes.hosts.connection import HostConnection
from nodes.hosts.handshake import scan_host_keys
from nodes.hosts.rights import HostRights, preflight
from nodes.hosts.target import HostKey
from nodes.operations.base import Run, StepPlan

STAGES = ("reach", "host_key", "authenticate")


def reach_steps() -> tuple[StepPlan, ...]:
    """The steps that every new way to a host begins with."""
    return (
        StepPlan("reach", _("Reach the host")),
        StepPlan("host_key", _("Verify the host key")),
        StepPlan("authenticate", _("Authenticate")),
    )


def open_connection(run: Run, login: access.Login, fingerprint: str) -> tuple[HostConnection, access.Login]:
    """Connect, with each stage as a step; gives the connection and the login with the host key pinned.

    ``fingerprint`` is the one that a person compared; "" keeps the key that is pinned already. The host is
    first asked for its keys alone. Only once the right one is among them is the credential used, on a
    connection that again insists on that key. Local and test nodes have no such stages: they are skipped.
    """
    if login.uri.transport != "ssh":
        for stage in STAGES:
            with run.step(stage) as step:
                step.skip(_("Not needed for this kind of node."))
        return access.connect_once(login.target()), login
    with run.step("reach") as step:
        keys = scan_host_keys(login.uri.host, login.uri.port, timeout_s=settings.NODEADMIN_HOST_TIMEOUT_S)
        step.report(_("The host answers and shows %d keys.") % len(keys))
    with run.step("host_key") as step:
        pinned = _choose(login, keys, fingerprint)
        step.report(f"{pinned.type} {pinned.fingerprint}")
    login = replace(login, host_key=pinned)
    with run.step("authenticate") as step:
        connection = access.connect_once(login.target())
        step.report(_("Logged in as %s.") % login.target().user)
    return connection, login


def _choose(login: access.Login, keys: tuple[HostKey, ...], fingerprint: str) -> HostKey:
    """The key that was confirmed, out of those that the host shows now."""
    confirmed = fingerprint or (login.host_key.fingerprint if login.host_key is not None else "")
    for key in keys:
        if key.fingerprint == confirmed:
            return key
    shown = ", ".join(f"{key.type} {key.fingerprint}" for key in keys) or _("none")
    raise HostKeyMismatch(
        _("The host shows %(shown)s; confirmed was %(confirmed)s.")
        % {"shown": shown, "confirmed": confirmed},
        remedy=_(
            "Compare the fingerprints on the host's console. If it was installed anew, confirm its new key; "
            "if not, somebody may be in between."
        ),
        field="host_key_fingerprint",
        extra={"confirmed": confirmed, "shown": [key.fingerprint for key in keys]},
    )


def check_rights(run: Run, connection: HostConnection) -> None:
    """The step in which the user's rights are found out, and everything is tried at once that will run."""
    with run.step("rights") as step:
        rights = preflight(connection)
        lines = [_described(rights)]
        if (connections := try_channels(connection)) > 1:
            # One sentence by itself: the number is never 1.
            few = _("The host allows few sessions in each SSH connection (MaxSessions): %d are used.")
            lines.append(few % connections)
        step.report(" ".join(lines), data=rights.to_dict())


def _described(rights: HostRights) -> str:
    missing = rights.missing()
    return _("Without: %s") % "; ".join(missing) if missing else _("Everything needed is allowed.")
