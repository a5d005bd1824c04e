"""Let a key in: one more line in the user's authorized_keys, and nothing else changed."""

from __future__ import annotations

import shlex

from nodes.errors import HostError, InsufficientRightsOnHost
from nodes.hosts.connection import HostConnection
from nodes.hosts.target import HostKey

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
    # The last word: a start-up file of the user may have said something before.
    answer = result.stdout.decode("ascii", errors="replace").split()[-1:]
    if result.exit_status == 0 and answer in (["added"], ["present"]):
        return answer == ["added"]
    raise _failure(connection, result.error_text)


def _failure(connection: HostConnection, said: str) -> HostError:
    return InsufficientRightsOnHost(
        f"The key could not be written to ~{connection.user}/.ssh/authorized_keys on "
        f"{connection.address}" + (f": {said}" if said else "."),
        remedy="The user needs a home directory of its own with free space. Or add the key by hand.",
    )
