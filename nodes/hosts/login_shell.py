"""What is wrong with a login shell that began no command, in its own words and with what helps."""

from __future__ import annotations

from nodes.errors import LoginShellUnusable
from nodes.hosts.command_frame import MAX_OUTSIDE
from nodes.hosts.shell import CommandResult, CommandTimeout, last_line

_START_UP_FILES = "~/.bashrc, ~/.zshenv, ~/.tcshrc, ~/.config/fish/config.fish, ~/.ssh/rc"


def silent(user: str, address: str, timeout_s: float, result: CommandResult) -> CommandTimeout:
    """It had not begun the command at its deadline, and will not: it gets no go-ahead any more."""
    return CommandTimeout(
        f"The login shell of “{user}” on {address} had not begun the command after {timeout_s:g} s"
        f"{_quoted(result.outside)}.",
        result,
        remedy=f"A start-up file of “{user}” may wait for input or for a network drive ({_START_UP_FILES}): "
        "let it ask and wait in interactive shells only. Or sshd runs another command instead "
        "(ForceCommand in sshd_config), or the host is overloaded.",
    )


def flooding(user: str, address: str, result: CommandResult) -> LoginShellUnusable:
    """It printed, and printed, and began no command."""
    whole_lines = result.outside.rpartition(b"\n")[0]
    return LoginShellUnusable(
        f"The login shell of “{user}” on {address} printed more than {MAX_OUTSIDE >> 20} MiB and had not "
        f"begun the command{_quoted(whole_lines or result.outside)}.",
        remedy=f"Remove from the start-up files of “{user}” what prints: {_START_UP_FILES}.",
    )


def refusing(user: str, address: str, exit_status: int, result: CommandResult) -> LoginShellUnusable:
    """It ended and had begun no command. ``exit_status`` is negative where there is none."""
    status = f" (exit status {exit_status})" if exit_status >= 0 else ""
    return LoginShellUnusable(
        f"The login shell of “{user}” on {address} does not run commands{_quoted(result.outside)}{status}.",
        remedy=f"On the host, as root: “getent passwd {user}” shows the login shell, and “usermod -s "
        f"/bin/bash {user}” sets one that runs commands (nologin, false and rbash run none). “chage -l "
        f"{user}” shows whether the password or the account has expired. sshd may also run another command "
        "instead (ForceCommand in sshd_config, command= in authorized_keys), or a start-up file end the "
        f"shell or send its output elsewhere ({_START_UP_FILES}).",
    )


def _quoted(outside: bytes) -> str:
    said = last_line(outside)
    return f": “{said}”" if said else ""
