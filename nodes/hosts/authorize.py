"""Let a key in, or no more: its lines in the user's authorized_keys, and nothing else changed."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nodes.errors import AuthenticationFailed, HostError, InsufficientRightsOnHost
from nodes.hosts.authorized_keys import (
    KeyOptions,
    line_of,
    lines_with,
    options_for,
    with_key,
    with_lines,
    without_key,
)
from nodes.hosts.connection import HostConnection
from nodes.hosts.deadlines import Clock
from nodes.hosts.login import key_conditions
from nodes.hosts.target import HostKey
from nodes.inventory.parsing.numbers import integer

MAX_FILE = 1 << 20
"""An authorized_keys file longer than this is not touched."""
_TRIES = 5

# A link (to a file kept elsewhere) stays a link.
_FIND = r"""
set -eu
umask 077
cd
file=$(readlink -f .ssh/authorized_keys 2>/dev/null) || file=.ssh/authorized_keys
"""
_READ = (
    _FIND
    + r"""
if [ ! -e "$file" ]; then echo absent; exit 0; fi
chmod 700 .ssh 2>/dev/null || :
chmod 600 "$file" 2>/dev/null || :
echo present
cat "$file"
"""
)
# The new file is made beside the old one and renamed over it, so that no moment and no full disk leaves the
# user without keys; only if the old one is still what was read, so that nobody else's change is lost. SELinux
# lets sshd read the file only with the context that restorecon gives it.
_WRITE = (
    _FIND
    + r"""
[ -d .ssh ] || mkdir .ssh
chmod 700 .ssh
file=$(readlink -f .ssh/authorized_keys 2>/dev/null) || file=.ssh/authorized_keys
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
cat >"$new"
[ "$(sha256sum <"$new" | cut -c1-64)" = "$2" ] || { echo incomplete; exit 0; }
exec 9<.ssh
if command -v flock >/dev/null 2>&1; then flock -w 10 9; fi
now=absent
[ ! -e "$file" ] || now=$(sha256sum <"$file" | cut -c1-64)
[ "$now" = "$1" ] || { echo changed; exit 0; }
chmod 600 "$new"
mv -f "$new" "$file"
trap - EXIT
if command -v restorecon >/dev/null 2>&1; then restorecon -F .ssh "$file" >/dev/null 2>&1 || :; fi
echo written
"""
)


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What became of a key's lines: those before, and whether the file was changed."""

    before: tuple[str, ...]
    changed: bool

    @property
    def new(self) -> bool:
        """Whether the key was not there before."""
        return not self.before


def authorize_key(
    connection: HostConnection,
    public_key: str,
    wanted: KeyOptions = KeyOptions(),  # noqa: B008 - it is frozen
    timeout_s: float = 15.0,
) -> KeyChange:
    """Put ``public_key`` into ``~/.ssh/authorized_keys`` of the connection's user, under the options that
    nodeadmin needs and no more (see :mod:`nodes.hosts.authorized_keys`).

    Directory and file get the modes that sshd asks for (0700, 0600); of a key that is there already, under
    whatever comment, the options are brought up to date. That the key opens the host is for the caller to
    prove with a connection made by it: sshd may look for keys elsewhere (AuthorizedKeysFile).

    Raises ValueError for what is no public key, InsufficientRightsOnHost where the file cannot be written,
    HostTimeout, HostUnreachable.
    """
    options = options_for(wanted, connection.server_version)
    line_of(public_key, options)
    change = partial(with_key, public_key=public_key.strip(), options=options)
    return _edit(connection, HostKey.parse(public_key), change, timeout_s)


def key_lines(connection: HostConnection, public_key: str, timeout_s: float = 15.0) -> tuple[str, ...]:
    """The lines of the key in the user's authorized_keys. Raises as :func:`authorize_key`."""
    content, _digest = _read(connection, timeout_s)
    return lines_with(content, HostKey.parse(public_key))


def revoke_key(connection: HostConnection, public_key: str, timeout_s: float = 15.0) -> KeyChange:
    """Take the lines of the key out of the user's authorized_keys. Raises as :func:`authorize_key`."""
    key = HostKey.parse(public_key)
    return _edit(connection, key, partial(without_key, key=key), timeout_s)


def restore_key(
    connection: HostConnection, public_key: str, before: Sequence[str], timeout_s: float = 15.0
) -> KeyChange:
    """Put back the lines of the key that :func:`authorize_key` found. Raises as that does."""
    key = HostKey.parse(public_key)
    return _edit(connection, key, partial(with_lines, key=key, before=before), timeout_s)


def _edit(
    connection: HostConnection, key: HostKey, change: Callable[[str], str], timeout_s: float
) -> KeyChange:
    clock = Clock(timeout_s)
    for _try in range(_TRIES):
        content, digest = _read(connection, clock.left)
        before, renewed = lines_with(content, key), change(content)
        if renewed == content:
            return KeyChange(before, changed=False)
        raw = renewed.encode("utf-8", "surrogateescape")
        script = f"sh -c {shlex.quote(_WRITE)} sh {digest} {hashlib.sha256(raw).hexdigest()}"
        result = connection.shell.run(script, stdin=raw, timeout_s=clock.left)
        answer = result.stdout.strip()
        if result.exit_status != 0 or answer not in (b"written", b"changed"):
            raise _failure(connection, result.error_text)
        if answer == b"written":
            return KeyChange(before, changed=True)
    raise _failure(connection, "somebody else keeps changing the file")


def _read(connection: HostConnection, timeout_s: float) -> tuple[str, str]:
    """The file's content, and its digest or ``absent``."""
    result = connection.shell.run(
        "exec sh -s", stdin=_READ.encode(), timeout_s=timeout_s, max_bytes=MAX_FILE + 64
    )
    word, _, raw = result.stdout.partition(b"\n")
    if result.exit_status != 0 or word not in (b"absent", b"present"):
        raise _failure(connection, result.error_text)
    if result.truncated or len(raw) > MAX_FILE:
        raise _failure(connection, f"the file is longer than {MAX_FILE} bytes")
    if word == b"absent":
        return "", "absent"
    return raw.decode("utf-8", "surrogateescape"), hashlib.sha256(raw).hexdigest()


def _failure(connection: HostConnection, said: str) -> HostError:
    return InsufficientRightsOnHost(
        f"The key could not be written to ~{connection.user}/.ssh/authorized_keys on "
        f"{connection.address}" + (f": {said}" if said else "."),
        remedy="The user needs a home directory of its own with free space. Or add the key by hand.",
    )


# Links are followed, as sshd follows them. sshd's own word needs root.
_LOOK = r"""
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
cd
for path in "$PWD" .ssh "$(readlink -f .ssh/authorized_keys)"; do
  stat -L -c "mode %a %U %n" -- "$path"
done
run=; [ "$(id -u)" = 0 ] || run="sudo -n --"
$run sshd -T -C "user=$(id -un),host=localhost,addr=127.0.0.1" 2>/dev/null </dev/null |
  grep -E "^(authorizedkeysfile|permitrootlogin|allowusers|allowgroups|denyusers|denygroups|pubkeyauth)"
:
"""
_WRITABLE_BY_OTHERS, _WRITABLE_BY_GROUP = 0o022, 0o020


def explain_refused_key(
    connection: HostConnection, refused: AuthenticationFailed, timeout_s: float = 15.0
) -> AuthenticationFailed:
    """The error to raise where sshd refused the key that :func:`authorize_key` had put in its place.

    Names what the host shows of the cause (a directory that others may write, keys that are looked for
    elsewhere), or else the candidates. ``connection`` is the one over which the key was written.
    """
    user = connection.user
    found: list[str] = []
    try:
        answer = connection.shell.run("exec sh -s", stdin=_LOOK.encode(), timeout_s=timeout_s)
        found = _causes(user, answer.stdout.decode("utf-8", errors="replace").splitlines())
    except HostError:  # the candidates are left
        pass
    return AuthenticationFailed(
        " ".join(
            [
                f"The key was written to ~{user}/.ssh/authorized_keys on {connection.address}, but sshd "
                "refuses it.",
                *found,
            ]
        ),
        remedy=f"Look on the host, as root: {key_conditions(user)}",
        field="credential",
        extra=refused.extra,
    )


def _causes(user: str, lines: Sequence[str]) -> list[str]:
    causes = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "mode":
            mode, owner, path = (*rest.split(" ", 2), "", "")[:3]
            writable_by = (integer(mode, 8) or 0) & _WRITABLE_BY_OTHERS
            if writable_by == _WRITABLE_BY_GROUP:  # OpenSSH of Debian lets a group of the user alone pass
                causes.append(
                    f"The group of {path} may write to it (mode {mode}): sshd ignores the keys unless it is "
                    f"the group of {user} alone."
                )
            elif writable_by:
                causes.append(
                    f"Others than {user} may write to {path} (mode {mode}), so sshd ignores the keys."
                )
            elif owner not in (user, "root"):
                causes.append(f"{path} belongs to {owner}, so sshd ignores the keys in it.")
        elif word == "authorizedkeysfile" and ".ssh/authorized_keys" not in rest:
            causes.append(f"sshd looks for keys elsewhere (AuthorizedKeysFile {rest}).")
        elif word == "permitrootlogin" and user == "root" and rest in ("no", "forced-commands-only"):
            causes.append(f"sshd does not let root in with it (PermitRootLogin {rest}).")
    return causes
