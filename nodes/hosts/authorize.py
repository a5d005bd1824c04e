"""Let a key in: one more line in the user's authorized_keys, and nothing else changed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from nodes.errors import AuthenticationFailed, HostError, InsufficientRightsOnHost
from nodes.hosts.connection import HostConnection
from nodes.hosts.login import key_conditions
from nodes.hosts.target import HostKey
from nodes.inventory.parsing.numbers import integer

# The new file is made beside the old one and renamed over it, so that no moment and no full disk leaves the
# user without keys. A link (to a file kept elsewhere) stays a link. SELinux lets sshd read the file only
# with the context that restorecon gives it.
_SCRIPT = r"""
set -eu
umask 077
cd
[ -d .ssh ] || mkdir .ssh
chmod 700 .ssh
file=$(readlink -f .ssh/authorized_keys 2>/dev/null) || file=.ssh/authorized_keys
if [ -f "$file" ] && grep -F -- "$key" "$file" | grep -qv '^[[:space:]]*#'; then
  echo present
else
  new=$(mktemp "$file.XXXXXX")
  trap 'rm -f "$new"' EXIT
  if [ -f "$file" ]; then
    cat "$file" >"$new"
    [ -z "$(tail -c 1 "$file")" ] || echo >>"$new"
  fi
  printf '%s\n' "$line" >>"$new"
  chmod 600 "$new"
  mv -f "$new" "$file"
  trap - EXIT
  echo added
fi
chmod 600 "$file"
if command -v restorecon >/dev/null 2>&1; then restorecon -F .ssh "$file" >/dev/null 2>&1 || :; fi
"""


def authorize_key(connection: HostConnection, public_key: str, timeout_s: float = 15.0) -> bool:
    """Put ``public_key`` into ``~/.ssh/authorized_keys`` of the connection's user; whether it was new.

    Directory and file get the modes that sshd asks for (0700, 0600); a key that is there already, under
    whatever comment, is not added twice. That the key opens the host is for the caller to prove with a
    connection made by it: sshd may look for keys elsewhere (AuthorizedKeysFile).

    Raises ValueError for what is no public key, InsufficientRightsOnHost where the file cannot be written,
    HostTimeout, HostUnreachable.
    """
    line = public_key.strip()
    key = HostKey.parse(line).to_text()
    if not line.isprintable():
        raise ValueError("a public key is one line")
    script = f"line={shlex.quote(line)}\nkey={shlex.quote(key)}\n{_SCRIPT}"
    result = connection.shell.run("exec sh -s", stdin=script.encode(), timeout_s=timeout_s)
    answer = result.stdout.strip()
    if result.exit_status == 0 and answer in (b"added", b"present"):
        return answer == b"added"
    raise _failure(connection, result.error_text)


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
