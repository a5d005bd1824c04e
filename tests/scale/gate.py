"""A host behind SSH whose commands wait at a gate: for operations that are to be found in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodes import access
from nodes.models import Credential, Node
from tests.factories import make_node
from tests.sshd import ME, LoopbackSshd

COMMAND = """#!/bin/sh
# Every command of the host: as long as the gate is there, it says that it waits, and waits.
while [ -e {gate} ]; do touch {waiting}; sleep 0.1; done
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


@contextmanager
def gated_node(folder: Path, gate: Path) -> Iterator[Node]:
    """A node on this machine's own system. While the file ``gate`` is, commands touch ``waiting``."""
    script = folder / "command"
    script.write_text(COMMAND.format(gate=gate, waiting=gate.with_name("waiting")))
    script.chmod(0o755)
    with LoopbackSshd(folder / "sshd", options={"ForceCommand": str(script)}, key_types=("ed25519",)) as sshd:
        node = make_node("gated", uri=f"qemu+ssh://{ME}@127.0.0.1:{sshd.port}/system")
        access.pin(node, sshd.host_key())
        node.save()
        Credential.objects.create(
            node=node, kind="ssh_key", secret={"private_key": sshd.user_key.read_text()}
        )
        yield node
