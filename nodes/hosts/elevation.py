"""How a command is run as root by another user: through sudo, without a password or with a stored one.

A password is typed into the standard input of the command alone (sudo(8), -S). It stands in no argument and
in no variable of an environment, on this machine or on the host, and sudo keeps no note of it (-k).

Where the rules of the host ask for none (NOPASSWD), sudo leaves that input to the command, with the password
in it. Commands that read none do not see it; of one that does it is found out first whether sudo asks.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from nodes.inventory.privileged import reads_input, require_declared

_FREE = "sudo -n --"
_ASKING = 'sudo -S -k -p "" --'
ASKS, RUNS = b"asks\n", b"runs\n"
"""What :meth:`Elevation.announced` prints: sudo waits for the password, or the command runs without one."""
# Tried without any input: whether the rules ask for a password, sudo tells by refusing to go on without.
_ANNOUNCED = (
    "export LC_ALL=C; case $(sudo -n -k -- {command} 2>&1 >/dev/null </dev/null) in "
    '*" is required"*) echo asks; exec {asking} {command};; *) echo runs; exec {free} {command};; esac'
)
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
        """``command``, a simple one, as root. Raises UndeclaredCommand for one that is not in the table,
        ValueError for one that would read a password that sudo has not asked for."""
        if self.is_root:
            return Elevated(command)
        require_declared(command)
        if self.typed and reads_input(command):
            raise ValueError("it has to be announced whether sudo reads the password")
        return Elevated(f"{_ASKING if self.typed else _FREE} {command}", self.typed)

    def announced(self, command: str) -> Elevated:
        """``command``, which reads its standard input, as root. Where there is something to be typed, it
        first prints :data:`ASKS` or :data:`RUNS`, and is to be typed into only after the former.

        Raises UndeclaredCommand. To learn which, the host runs the command once with an empty input.
        """
        if not self.typed:
            free = self.of(command)
            return Elevated(f"exec {free.line}")
        require_declared(command)
        return Elevated(_ANNOUNCED.format(command=command, asking=_ASKING, free=_FREE), self.typed)

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
