"""A host that is an enemy: a real sshd, whose tools answer as somebody wrote them who wants to hurt.

``sh``, by which the probe and the heartbeats are run, and ``journalctl`` are scripts of a directory that
comes first on the path; the login shell, the frame around every command and all else are the real ones. What
cannot be had of a real sshd (a greeting without end) is a bare socket.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from nodes.inventory.registry import all_sources
from tests.inventory.documents import host_document
from tests.sshd import LoopbackSshd

ENTRY = (
    "__CURSOR=s=1;i=1;b=1;m=1;t=1;x=1\\n__REALTIME_TIMESTAMP=1700000000000001\\n_BOOT_ID=%s\\n"
    "MESSAGE=hello\\nSYSLOG_IDENTIFIER=cron\\n\\n"
) % ("ab" * 16)
"""An entry of a journal, for printf(1)."""
ONE_BYTE = "while :; do printf x || exit; sleep 1; done"

_HEAD = (
    b"@@nodeadmin-probe 1 bound=8388609 elevate=root uid=0\n@@names %s\n"
    % " ".join(f"{number}:{source.name}" for number, source in enumerate(all_sources())).encode()
)
PROBES = {
    "endless": "exec yes ''",
    "one byte a second": ONE_BYTE,
    "garbage": "exec head -c 3000000 /dev/urandom",
    "never ends": "exec sleep 600",
    "half a million frames": "exec cat frames",
    "frames without end": "cat head; exec yes '0 1.1.o'",
    "nested": "exec cat nested",
    "gigantic": "exec cat gigantic",
}
"""What stands in for the probe, by what is wrong with it."""

JOURNALS = {
    "garbage": "exec head -c 3000000 /dev/urandom",
    "one byte a second": ONE_BYTE,
    "never ends": "exec sleep 600",
    "the same entry for ever": f"while :; do printf '{ENTRY}' || exit; done",
    "no cursor": f"printf '{ENTRY.replace('s=1;i=1;b=1;m=1;t=1;x=1', 'over there')}'",
    "a field without end": "printf 'MESSAGE='; exec yes x",
    "a size of 8 EiB": r"printf 'MESSAGE\n\377\377\377\377\377\377\377\177'; exec yes x",
    "names without end": "exec yes ''",
}

FLOODS = {
    "new entries for ever": (
        "exec awk 'BEGIN { for (;;) { n++; printf \"__CURSOR=s=1;i=%x;b=1;m=1;t=1;x=1\\n"
        "__REALTIME_TIMESTAMP=17%08d000000\\n_BOOT_ID=" + "ab" * 16 + "\\nMESSAGE=line %d of a flood\\n"
        "SYSLOG_IDENTIFIER=cron\\nPRIORITY=6\\n\\n\", n, n / 1000, n } }'"
    ),
}
"""Journals in which nothing is wrong but how much there is."""

BEATS = {
    "new boot IDs": (
        "exec awk 'BEGIN { for (;;) { n++; printf \"beat 1 n=%d boot=%032x up=9 load=1,1,1 cpu=1,1 mem=9,9,9 "
        "libvirt=1 vms=1,1 end\\n\", n, n } }'"
    ),
    "empty lines": "exec yes ''",
    "one byte a second": ONE_BYTE,
    "garbage": "exec cat /dev/urandom",
    "no line break": "exec tr '\\0' x </dev/zero",
    "never comes": "exec sleep 600",
}
"""What stands in for the heartbeats."""

ODD = "\x1b[2J\x9b1m\x7f\u202egnp\u2066\u200f<script>alert(1)</script>\udcff"
"""What an enemy adds to names: a terminal's sequences, overrides, markup, and a byte that is no UTF-8."""
ODD_NAMES = {
    "odd names": (
        'case "$*" in *--field=*|*--list-boots*) exec cat {bin}/odd-names;; '
        "*) exec cat {bin}/odd-entries;; esac"
    )
}
"""A journal whose names and fields all have it. ``{bin}`` is where the host's tools are."""
_VALUE = re.compile(r"(?m)(?<=[:=\"'\t ])([A-Za-z][\w.-]{3,})$")


def odd(text: str) -> str:
    """``text`` of a source with :data:`ODD` behind what may be a name, and well-formed as it was."""
    try:
        found = json.loads(text)
    except ValueError:
        return _VALUE.sub(lambda value: value[1] + ODD, text)
    return json.dumps(_odd_values(found))


def _odd_values(value: object) -> object:
    if isinstance(value, dict):
        return {name: _odd_values(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_odd_values(one) for one in value]
    return value + ODD if isinstance(value, str) and re.match("[A-Za-z]{3}", value) else value


def odd_probe() -> bytes:
    """What the probe prints on a host of the lab, with odd names in it."""
    outputs = host_document("lab-rich").sources
    frames = []
    for number, source in enumerate(all_sources()):
        names = [name for name in outputs if name == source.name or name.startswith(f"{source.name}:")]
        for name in names:
            item = name.removeprefix(source.name).removeprefix(":")
            listed = outputs[source.name].stdout.split("\n")
            base = f"{number}.{listed.index(item) + 1}" if item else f"{number}"
            text = outputs[name].stdout
            # A list of items stays: each has to be found by its name.
            body = text if source.items and not item else odd(text)
            frames.append((f"{base}.o", body.encode("utf-8", "surrogateescape")))
            frames.append((f"{base}.s", b"0 1 2"))
    table = b"".join(b"%d %s\n" % (len(body), name.encode()) for name, body in frames)
    return _HEAD + table + b"@@data\n" + b"".join(body for _name, body in frames) + b"@@end\n"


class EnemyHost:
    """A host whose probe, journal and heartbeats are of a kind of :data:`PROBES`, :data:`JOURNALS` (or
    :data:`FLOODS`) and :data:`BEATS`.

    ``attack``: as long as this file is not there, the host does what an honest one does, with the journal of
    the directory ``own_journal``. ``prefix``: what its sshd, and so all of it, is started by.
    """

    def __init__(
        self,
        folder: Path,
        *,
        attack: Path | None = None,
        own_journal: Path | None = None,
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._attack = attack
        self._real_journalctl = f'/usr/bin/journalctl --directory={own_journal} "$@"'
        self._sh: dict[str, str] = {}
        path = f"SHLVL=2 PATH={self.bin}:/usr/bin:/bin:/usr/sbin:/sbin"
        self.sshd = LoopbackSshd(
            folder / "sshd", key_types=("ed25519",), options={"SetEnv": path}, prefix=prefix
        )
        self._write_files()
        if own_journal is not None:
            self._tool("journalctl", "", f"exec {self._real_journalctl}")

    def probe(self, kind: str, *, whatever_is_asked: bool = True) -> None:
        """From now on the probe is ``kind``; and, unless it is alone, whatever else a script asks."""
        real = 'printf "%s\\n" "$script" | /bin/sh -s; exit'
        alone = f'script=$(cat); case "$script" in *@@nodeadmin-probe*) ;; *) {real};; esac; '
        attack = ("" if whatever_is_asked else alone) + f"cd {self.bin}; {_PROBES[kind]}"
        self._sh["probe"] = f'if [ "$1" = -s ]; then {attack}; fi'
        self._write_sh()

    def beats(self, kind: str) -> None:
        """From now on the heartbeats are ``kind``."""
        self._sh["beats"] = f'case "$2" in *"beat 1 n="*) {BEATS[kind]};; esac'
        self._write_sh()

    def journal(self, kind: str) -> None:
        """From now on the journal is ``kind``; what asks what journalctl can do is answered well."""
        version = "printf 'systemd 252 (252)\\n+PCRE2\\n'"
        told = f'case "$*" in *--version*) {version}; exit;; *--lines=0*) exit;; esac'
        self._tool("journalctl", self._real_journalctl, told, _JOURNALS[kind].replace("{bin}", str(self.bin)))

    def _write_sh(self) -> None:
        real = '/bin/sh "$@"'
        self._tool("sh", real, *self._sh.values(), f"exec {real}")

    def _tool(self, name: str, real: str, *lines: str) -> None:
        honest = [f"[ -e {self._attack} ] || exec {real}"] if self._attack is not None and real else []
        file = self.bin / name
        file.write_text("\n".join(["#!/bin/sh", *honest, *lines, ""]))
        file.chmod(0o755)

    def _write_files(self) -> None:
        head = _HEAD
        rows = b"".join(b"0 1.%d.o\n" % (number % 999_999) for number in range(500_000))
        (self.bin / "head").write_bytes(head)
        raw = ODD.encode("utf-8", "surrogateescape")
        (self.bin / "odd").write_bytes(odd_probe())
        (self.bin / "odd-names").write_bytes(b"cron%s\ncron.service%s\nwell\nwell.service\n" % (raw, raw))
        (self.bin / "odd-entries").write_bytes(_odd_entries(raw))
        (self.bin / "frames").write_bytes(head + rows + b"@@data\n@@end\n")
        sources = range(len(all_sources()))
        for name, body in (("nested", b'[{"children":' * 20_000), ("gigantic", b"/a/b:" + b"9" * 900_000)):
            table = b"".join(b"%d %d.o\n5 %d.s\n" % (len(body), number, number) for number in sources)
            parts = b"".join(body + b"0 1 2" for _number in sources)
            (self.bin / name).write_bytes(head + table + b"@@data\n" + parts + b"@@end\n")

    def __enter__(self) -> Self:
        self.sshd.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sshd.stop()


_PROBES = PROBES | {"odd names": "exec cat odd"}
_JOURNALS = JOURNALS | FLOODS | ODD_NAMES


def _odd_entries(raw: bytes) -> bytes:
    """Entries of a journal, one for each field that is odd."""
    fields = [line.partition("=") for line in ENTRY.replace("\\n", "\n").split("\n") if line]
    found = []
    for number, odd_one in enumerate((b"MESSAGE", b"SYSLOG_IDENTIFIER", b"_BOOT_ID", b"_SYSTEMD_UNIT")):
        entry = {name.encode(): value.encode() for name, _equals, value in fields}
        entry[b"__CURSOR"] = b"s=1;i=%x;b=1;m=1;t=1;x=1" % (number + 1)
        entry[odd_one] = entry.get(odd_one, b"cron.service") + raw
        found.append(b"".join(b"%s=%s\n" % field for field in entry.items()) + b"\n")
    return b"".join(found)


class EndlessGreeting:
    """What listens where sshd should, and greets without end: lines before the version are allowed (RFC 4253,
    section 4.2), and nothing says how many."""

    def __init__(self, line: bytes = b"welcome\r\n") -> None:
        self._line = line * (1 + 4096 // len(line))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        threading.Thread(target=self._serve, name="test: endless greeting", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._greet, args=(peer,), daemon=True).start()

    def _greet(self, peer: socket.socket) -> None:
        with peer:
            try:
                while True:
                    peer.sendall(self._line)
                    self.sent += len(self._line)
            except OSError:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
