"""A host behind SSH whose commands wait at a gate: for operations that are to be found in the middle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nodes import access
from nodes.models import Node
from tests.factories import make_credential, make_node
from tests.libvirtd import AVAILABLE, LibvirtHost
from tests.sshd import ME, LoopbackSshd

COMMAND = """#!/bin/sh
# Every command of the host: as long as the gate is there, it says that it waits, and waits.
while [ -e {gate} ]; do touch {waiting}; sleep 0.1; done
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


@contextmanager
def _host(folder: Path, options: Mapping[str, str]) -> Iterator[LoopbackSshd]:
    """With a libvirt of its own, where one can be had: this machine's may take half a minute to answer."""
    if not AVAILABLE:
        with LoopbackSshd(folder, options=options, key_types=("ed25519",)) as sshd:
            yield sshd
        return
    with LibvirtHost(folder, sshd_options=options) as host:
        host.virsh("capabilities")
        yield host.sshd


@contextmanager
def gated_node(folder: Path, gate: Path) -> Iterator[Node]:
    """A node on this machine. While the file ``gate`` is, commands touch ``waiting``."""
    script = folder / "command"
    script.write_text(COMMAND.format(gate=gate, waiting=gate.with_name("waiting")))
    script.chmod(0o755)
    with _host(folder / "host", {"ForceCommand": str(script)}) as sshd:
        node = make_node("gated", uri=f"qemu+ssh://{ME}@127.0.0.1:{sshd.port}/system")
        access.pin(node, sshd.host_key())
        node.save()
        make_credential(node, "ssh_key", private_key=sshd.user_key.read_text())
        yield node
