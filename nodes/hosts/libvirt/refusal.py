"""Why a target refused a VM: read off libvirt's and QEMU's words, where these leave no doubt.

Codes: https://libvirt.org/html/libvirt-virterror.html. Most of what a target says comes as an internal error
or a failed operation, so the words count as well; QEMU's own are those of its incoming side.
"""

from __future__ import annotations

import re

import libvirt

_CODES: dict[int, str] = {
    libvirt.VIR_ERR_CPU_INCOMPATIBLE: "cpu_incompatible",
    libvirt.VIR_ERR_NO_NETWORK: "network_not_on_target",
    libvirt.VIR_ERR_NO_STORAGE_POOL: "storage_not_on_target",
    libvirt.VIR_ERR_NO_STORAGE_VOL: "storage_not_on_target",
    libvirt.VIR_ERR_MIGRATE_UNSAFE: "storage_not_on_target",
}

_WORDS: tuple[tuple[str, str], ...] = (
    # Before anything else: a connection that ended says nothing of the target.
    ("", r"connection reset|broken pipe|end of file|client socket is closed|keepalive|cancel|aborted"),
    ("", r"terminating on signal"),
    ("migration_network", r"unable to connect to server|unable to resolve address|no route to host"),
    ("migration_network", r"network is unreachable|connection refused"),
    ("cpu_incompatible", r"guest cpu doesn.t match|missing features|incompatible with host cpu|cpu model"),
    ("network_not_on_target", r"network '.*' is not active|network not found|interface mtu|bridge .* port"),
    ("network_not_on_target", r"cannot find device|failed to add tap"),
    ("storage_not_on_target", r"cannot access storage|could not open|cannot open file|could not load kernel"),
    ("storage_not_on_target", r"failed to get .* lock|storage (pool|volume)|unsafe"),
    ("hypervisor_differs", r"machine type|emulator|qemu binary|load of migration failed"),
    ("hypervisor_differs", r"error while loading state|migration cookie|unsupported configuration"),
    # With QEMU's own words after it; one that was killed, with its host or alone, leaves none.
    ("hypervisor_differs", r"(exited while connecting to monitor|unexpectedly closed the monitor): *\S"),
    ("storage_not_on_target", r"unable to stat|no such file or directory"),
)


def refusal_of(libvirt_code: int | None, text: str) -> str:
    """The stable word for what about the target kept the VM from it: ``cpu_incompatible``,
    ``hypervisor_differs``, ``storage_not_on_target``, ``network_not_on_target``, ``migration_network``.

    "" where the error does not say that it was the target: a lost connection, an abort, a fault of the
    source, and whatever is not known.
    """
    if libvirt_code in _CODES:
        return _CODES[libvirt_code]
    lowered = text.lower()
    return next((code for code, pattern in _WORDS if re.search(pattern, lowered)), "")
