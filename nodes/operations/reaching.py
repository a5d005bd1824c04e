"""The way to a host, one visible step after another: address, host key, credential."""

from __future__ import annotations

from dataclasses import replace

from django.conf import settings
from django.utils.translation import gettext as _

from nodes import access
from nodes.hosts.channel_check import try_channels
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.host_key_scan import find_host_key
from nodes.hosts.rights import HostRights, preflight
from nodes.hosts.scan_answer import ssh_told_alike
from nodes.operations.base import Run, StepPlan

RIGHTS_S = 15.0
"""What finding out the user's rights may take; a login shell that waits for something ends there."""
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
    first asked for that key alone, by its type where it is known. Only once it has shown it is the credential
    used, on a connection that again insists on that key. Local and test nodes have no such stages: they are
    skipped.
    """
    if login.uri.transport != "ssh":
        for stage in STAGES:
            with run.step(stage) as step:
                step.skip(_("Not needed for this kind of node."))
        return access.connect_once(login.target()), login
    confirmed, key_type = _confirmed(run, login, fingerprint)
    with run.step("reach") as step:
        clock = Clock(settings.NODEADMIN_HOST_TIMEOUT_S)
        with ssh_told_alike(login.uri.host, login.uri.port, clock):
            scan = find_host_key(
                login.uri.host,
                login.uri.port,
                confirmed,
                rules=access.network_rules(),
                key_type=key_type,
                timeout_s=clock.left,
                jump=login.jump(),
            )
        through = login.jump_host
        step.report(
            _("The host answers, through the jump host %s.") % through.name
            if through is not None
            else _("The host answers.")
        )
    with run.step("host_key") as step:
        pinned = access.chosen_key(scan, confirmed, key_type)
        step.report(f"{pinned.type} {pinned.fingerprint}", data={"host_key": pinned.to_text()})
    login = replace(login, host_key=pinned)
    with run.step("authenticate") as step:
        connection = access.connect_once(login.target())
        step.report(_("Logged in as %s.") % login.target().user)
    return connection, access.with_own_key(login, connection)


def _confirmed(run: Run, login: access.Login, fingerprint: str) -> tuple[str, str]:
    """The fingerprint that was confirmed, and the type of its key, "" where nobody has said it."""
    if fingerprint:
        return fingerprint, str(run.operation.params.get("key_type", ""))
    if login.host_key is not None:
        return login.host_key.fingerprint, login.host_key.type
    return "", ""


def check_rights(run: Run, connection: HostConnection) -> None:
    """The step in which the user's rights are found out, and everything is tried at once that will run."""
    with run.step("rights") as step:
        rights = preflight(connection, RIGHTS_S)
        lines = [_described(rights)]
        if (connections := try_channels(connection)) > 1:
            # One sentence by itself: the number is never 1.
            few = _("The host allows few sessions in each SSH connection (MaxSessions): %d are used.")
            lines.append(few % connections)
        step.report(" ".join(lines), data=rights.to_dict())


def _described(rights: HostRights) -> str:
    missing = rights.missing()
    return _("Without: %s") % "; ".join(missing) if missing else _("Everything needed is allowed.")
