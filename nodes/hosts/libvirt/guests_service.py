"""libvirt-guests, a service of the host that starts VMs at boot besides libvirt itself.

With ``ON_BOOT=start`` it starts those that ran when the host last went down and that it had to suspend or
shut down itself (libvirt-guests(8)). Only looked at, never changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodes.hosts.shell import Shell

READ_S = 5.0
CONFIGURATIONS = ("/etc/default/libvirt-guests", "/etc/sysconfig/libvirt-guests")
SCRIPTS = ("/usr/lib/libvirt/libvirt-guests.sh", "/usr/libexec/libvirt-guests.sh")
_SETTING = re.compile(r"^[ \t]*(?:export[ \t]+)?ON_BOOT=[\"']?([A-Za-z_-]*)[\"']?")
_COMMAND = (
    "export LC_ALL=C; systemctl is-enabled libvirt-guests.service 2>/dev/null || echo; "
    # The last one counts: the script's own setting holds where a distribution's file does not say otherwise.
    f"for file in {' '.join((*SCRIPTS, *CONFIGURATIONS))}; do "
    '[ -r "$file" ] && grep -E "^[[:space:]]*(export[[:space:]]+)?ON_BOOT=" "$file"; done; :'
)


@dataclass(frozen=True, slots=True)
class GuestsService:
    """``enabled``: whether it runs at boot; ``on_boot`` is its setting, None where that could not be read."""

    enabled: bool
    on_boot: str | None

    @property
    def starts_vms(self) -> bool | None:
        """None where it runs at boot and what it does then could not be read."""
        if not self.enabled:
            return False
        return None if self.on_boot is None else self.on_boot == "start"


def guests_service(shell: Shell, *, timeout_s: float = READ_S) -> GuestsService:
    """What the host's libvirt-guests would do at boot. Raises HostError where the host does not answer."""
    answer = shell.run(_COMMAND, timeout_s=timeout_s, max_bytes=8192)
    state, _, rest = answer.stdout.decode("utf-8", "replace").partition("\n")
    found = [match[1] for line in rest.splitlines() if (match := _SETTING.match(line))]
    enabled = state.strip() in ("enabled", "enabled-runtime")
    return GuestsService(enabled, found[-1].lower() if found else None)
