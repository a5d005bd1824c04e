"""Which errors of a migration say that it was the target that refused the VM."""

from __future__ import annotations

import libvirt
import pytest

from nodes.hosts.libvirt.refusal import refusal_of

INTERNAL, FAILED = libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_OPERATION_FAILED


@pytest.mark.parametrize(
    ("code", "text", "word"),
    [
        (
            FAILED,
            "operation failed: guest CPU doesn't match specification: missing features: avx512f,pku",
            "cpu_incompatible",
        ),
        (libvirt.VIR_ERR_CPU_INCOMPATIBLE, "the CPU is incompatible with host CPU", "cpu_incompatible"),
        (
            libvirt.VIR_ERR_NO_NETWORK,
            "Network not found: no network with matching name 'lan'",
            "network_not_on_target",
        ),
        (INTERNAL, "network 'lan' is not active", "network_not_on_target"),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Cannot get interface MTU on 'br7': No such device",
            "network_not_on_target",
        ),
        (
            INTERNAL,
            "process exited while connecting to monitor: 2026-01-01T00:00:00Z qemu-system-x86_64: "
            "-blockdev {...}: Could not open '/srv/a.qcow2': No such file or directory",
            "storage_not_on_target",
        ),
        (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            "Cannot access storage file '/srv/a.qcow2': No such file or directory",
            "storage_not_on_target",
        ),
        (
            libvirt.VIR_ERR_MIGRATE_UNSAFE,
            "Unsafe migration: Migration without shared storage",
            "storage_not_on_target",
        ),
        (
            INTERNAL,
            "process exited while connecting to monitor: qemu-system-x86_64: -machine pc-q35-9.2: "
            "unsupported machine type",
            "hypervisor_differs",
        ),
        (INTERNAL, "qemu unexpectedly closed the monitor: error while loading state", "hypervisor_differs"),
        (
            FAILED,
            "operation failed: unable to connect to server at 'kvm-2:49152': No route to host",
            "migration_network",
        ),
    ],
)
def test_what_the_target_has_not_is_told_by_a_word(code, text, word):
    assert refusal_of(code, text) == word


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (INTERNAL, "unable to write to migration stream: Connection reset by peer"),
        (INTERNAL, "End of file while reading data: Input/output error"),
        (FAILED, "operation failed: migration out job: canceled by client"),
        (libvirt.VIR_ERR_OPERATION_ABORTED, "operation aborted: migration out: canceled by client"),
        (libvirt.VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: domain is not running"),
        (FAILED, "operation failed: job 'migration out' unexpectedly failed"),
        (INTERNAL, "qemu unexpectedly closed the monitor"),
        (
            INTERNAL,
            "process exited while connecting to monitor: qemu-system-x86_64: terminating on signal 15",
        ),
        (None, "something nobody has ever seen"),
    ],
)
def test_a_lost_connection_an_abort_and_what_is_unknown_are_no_refusal(code, text):
    assert refusal_of(code, text) == ""
