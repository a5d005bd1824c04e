"""How a command is run as root by another user: through sudo, without a password or with a stored one.

A password is typed into the standard input of the command alone (sudo(8), -S). It stands in no argument and
in no variable of an environment, on this machine or on the host, and sudo keeps no note of it (-k).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from nodes.inventory.privileged import require_declared

_FREE = "sudo -n --"
_ASKING = 'sudo -S -k -p "" --'
SUDO_FUNCTION = r"""
as_root() {
  if [ "$na_password" ]; then printf '%s\n' "$na_password" | sudo -S -k -p "" "$@"
  else sudo -n "$@" </dev/null; fi
}
"""
"""For a script that begins with :attr:`Elevation.assignment`: sudo that never waits for a password."""


@dataclass(frozen=True, slots=True)
class Elevated:
    """A command line, and what is to be typed into its standard input before anything else."""

    line: str
    typed: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Elevation:
    """What a user has to do to be root."""

    is_root: bool
    password: str | None = field(default=None, repr=False)

    def of(self, command: str) -> Elevated:
        """``command``, a simple one, as root. Raises UndeclaredCommand for one that is not in the table."""
        if self.is_root:
            return Elevated(command)
        require_declared(command)
        return Elevated(f"{_ASKING if self.typed else _FREE} {command}", self.typed)

    @property
    def typed(self) -> bytes:
        """The password as it is typed; b"" where none is needed."""
        if self.is_root or self.password is None:
            return b""
        return f"{self.password}\n".encode()

    @property
    def prefix(self) -> str:
        """What stands before a declared command in a script; it has the password in ``na_password``."""
        if self.is_root:
            return ""
        return f"printf '%s\\n' \"$na_password\" | {_ASKING} " if self.typed else f"{_FREE} "

    @property
    def first(self) -> str:
        """How such a script begins."""
        return "IFS= read -r na_password; " if self.typed else ""

    @property
    def assignment(self) -> bytes:
        """The same for a script that is itself the standard input of a shell."""
        password = "" if self.is_root else self.password or ""
        return f"na_password={shlex.quote(password)}\n".encode()
