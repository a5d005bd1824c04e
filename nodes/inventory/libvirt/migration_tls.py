"""What QEMU needs on a host to encrypt migrations: its certificates, and how libvirt was told to use them.

Of the keys only whether they are there is asked: nothing of one is read. What libvirtd runs with is what
qemu.conf said when it started; a file changed since counts from its next start.
Sources: https://libvirt.org/migration.html, libvirt's qemu.conf (migrate_tls_*, default_tls_*), QEMU's
docs/system/tls.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.forms import lines_like
from nodes.inventory.parsing.x509 import Certificate, read_certificates
from nodes.inventory.source import Source

# What this user may look at, the shell itself looks at: each process costs a slow host some 10 ms. For the
# rest `ls` and `cat` go through sudo where that is needed; `command` keeps it away from filters of a stream.
QEMU_TLS = Source(
    "qemu-tls",
    r"""[ -d /etc/libvirt ] || { echo "libvirt:no"; exit 0; }
echo "libvirt:yes"
present() {
  [ -e "$1" ] && return
  seen=$1
  until [ -e "${seen:-/}" ]; do seen=${seen%/*}; done
  [ ! -x "${seen:-/}" ] && ls -dL "$1" >/dev/null 2>&1
}
wanted='^[[:space:]]*(migrate|default)_tls_(x509_cert_dir|x509_verify|force)[[:space:]]*='
conf=/etc/libvirt/qemu.conf
settings=
if [ -r "$conf" ]; then
  settings=$(command grep -E "$wanted" "$conf")
elif [ ! -x /etc/libvirt ] || [ -e "$conf" ]; then
  names=$(ls /etc/libvirt) || exit
  case "
$names
" in *"
qemu.conf
"*)
    text=$(cat "$conf") || exit
    settings=$(printf '%s\n' "$text" | command grep -E "$wanted") ;;
  esac
fi
look() {
  present "$1/." || return
  echo "folder:$1"
  for name in ca-cert server-cert server-key client-cert client-key; do
    present "$1/$name.pem" || continue
    echo "file:$name.pem"
    case $name in *-cert)
      cat "$1/$name.pem" 2>/dev/null | head -c 262144 |
        sed -n '/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p' ;;
    esac
  done
}
if [ "$settings" ]; then
  printf '%s\n' "$settings" | sed 's/^[[:space:]]*/set:/'
  printf '%s\n' "$settings" |
    sed -n "s/^[^=]*_cert_dir[[:space:]]*=[[:space:]]*[\"']\(.*\)[\"'][^\"']*\$/\1/p" |
    while IFS= read -r folder; do look "$folder"; done
fi
look /etc/pki/libvirt-migrate
look /etc/pki/qemu
:""",
    needs_root=True,
    form=lines_like(r"^libvirt:(yes|no)$", always=True),
)

DEFAULT_FOLDERS = ("/etc/pki/libvirt-migrate", "/etc/pki/qemu")
"""Where libvirt looks unless told otherwise: the first where it exists, else the second."""

_VERIFY = "default_tls_x509_verify"
_SETTING = re.compile(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|(\d+))")


@dataclass(frozen=True, slots=True)
class MigrationTls:
    """What a host has for encrypted migrations.

    ``folder`` is where QEMU's certificates are looked for; ``files`` the names of those that are there
    (``ca-cert.pem``, ``server-cert.pem``, ``server-key.pem``, ``client-cert.pem``, ``client-key.pem``).
    ``authorities`` are the certificates of ``ca-cert.pem``; ``server`` what the host shows as a target,
    ``client`` what it shows as a source, each its own certificate first and then those that lead to its
    authority; empty where the file is not there or holds no certificate that can be read.
    ``verifies_client``: as a target it asks the source for a certificate. ``required``: its libvirt refuses
    migrations that are not encrypted (``migrate_tls_force``).
    """

    folder: str
    files: tuple[str, ...]
    authorities: tuple[Certificate, ...]
    server: tuple[Certificate, ...]
    client: tuple[Certificate, ...]
    verifies_client: bool
    required: bool

    @classmethod
    def from_plain(cls, facts: Mapping[str, Any]) -> Self:
        """The facts as an inventory's JSON has them. Raises KeyError or TypeError for what is none."""
        chains = {
            name: tuple(Certificate(**{**row, "names": tuple(row["names"])}) for row in facts[name])
            for name in ("authorities", "server", "client")
        }
        return cls(
            folder=facts["folder"],
            files=tuple(facts["files"]),
            verifies_client=facts["verifies_client"],
            required=facts["required"],
            **chains,
        )


def read_migration_tls(document: HostDocument) -> MigrationTls | None:
    """Facts from :data:`QEMU_TLS`; None where the source could not be read, or the host has no libvirt."""
    output = document.sources.get(QEMU_TLS.name)
    if output is None or output.status is not SourceStatus.OK:
        return None
    lines = output.stdout.split("\n")
    if "libvirt:yes" not in lines:
        return None
    settings = dict(_settings(lines))
    folders = _folders(lines)
    folder = _folder(settings, folders)
    files = folders.get(folder, {})

    def certificates(name: str) -> tuple[Certificate, ...]:
        return read_certificates("\n".join(files.get(name, ())))

    return MigrationTls(
        folder=folder,
        files=tuple(files),
        authorities=certificates("ca-cert.pem"),
        server=certificates("server-cert.pem"),
        client=certificates("client-cert.pem"),
        # qemu.conf: "If default_tls_x509_verify is not supplied either, the default is 1".
        verifies_client=(settings.get("migrate_tls_x509_verify") or settings.get(_VERIFY) or "1") != "0",
        required=settings.get("migrate_tls_force", "0") not in ("0", ""),
    )


def _settings(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        match = _SETTING.match(line.removeprefix("set:")) if line.startswith("set:") else None
        if match is not None:
            yield match[1], next((value for value in match.groups()[1:] if value is not None), "")


def _folders(lines: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """The lines of each file's certificates, by folder and file name."""
    found: dict[str, dict[str, list[str]]] = {}
    files: dict[str, list[str]] = {}
    text: list[str] = []
    for line in lines:
        if line.startswith("folder:"):
            # Named in the settings as well as by default, it is printed twice.
            files = found[line.removeprefix("folder:")] = {}
        elif line.startswith("file:"):
            text = files[line.removeprefix("file:")] = []
        elif not line.startswith(("libvirt:", "set:")):
            text.append(line)
    return found


def _folder(settings: dict[str, str], folders: dict[str, dict[str, list[str]]]) -> str:
    named = settings.get("migrate_tls_x509_cert_dir")
    if named:
        return named
    if DEFAULT_FOLDERS[0] in folders:
        return DEFAULT_FOLDERS[0]
    return settings.get("default_tls_x509_cert_dir") or DEFAULT_FOLDERS[1]
