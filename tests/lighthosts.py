"""Light hosts: real libvirtd, real QEMU (emulating, so without /dev/kvm) and real sshd, but no boot.

Each is a mount namespace of this machine with its own libvirt, machine ID, boot ID, host UUID and migration
ports, so that VMs migrate live from one to the other over ``tcp://127.0.0.1``::

    with light_pair(tmp_path) as (one, two):
        vm = TinyVm("web")
        one.start_vm(vm)
        ...
        assert_exactly_once((one, two), vm, on=two)

A light host "reboots": ``systemctl reboot`` and ``systemctl poweroff`` inside of it (a script of ours mounted
over the real one) end its VMs, its libvirtd, its sshd and every session by SIGKILL, and forget what a real
host keeps in /run; after ``boot_s`` a reboot starts sshd and libvirtd again, under another boot ID. While it
is off, its SSH port swallows what is sent to it, as a host without power does. ``power_on`` is its button.

What it is not: all light hosts and this machine share one kernel, one process table, one network, one clock.
Processors, memory, PCI, disks and network cards are this machine's, in each of them. The journal is this
machine's. There is no systemd: ``systemctl`` knows ``reboot``, ``poweroff``, ``is-system-running`` and
``is-enabled``, ``busctl`` what of logind a power command depends on, and nothing shuts down in order. Of a
host that is off, only the SSH port swallows packets. The thread that carries out a power command lives in the
test's process; what is tested may be killed as one likes.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import capabilities
from tests.libvirtd import AVAILABLE, LibvirtHost

__all__ = ["AVAILABLE", "LightHost", "TinyVm", "assert_exactly_once", "guest_kernel", "light_pair", "where"]

_HERE = Path(__file__).parent
GUESTS = {"obedient": _HERE / "lab" / "obedient.S", "restless": _HERE / "restless.S"}
PORTS = 16
TLS_FOLDER = "/etc/libvirt/migration-pki"
_SYSTEMCTL = """#!/bin/sh
go() {{
    if [ -s {folder}/refusal ]; then cat {folder}/refusal >&2; exit 1; fi
    echo "$1" >>{folder}/commands
    echo stopping >{folder}/state
    echo "$1" >{folder}/requests
}}
case "$*" in
  reboot|poweroff)
    if grep -q '"block"' {folder}/inhibitors; then
      echo "Call to $1 failed: Access denied" >&2; exit 1
    fi
    go "$1" ;;
  "start --no-block --job-mode=replace-irreversibly reboot.target") go reboot ;;
  "start --no-block --job-mode=replace-irreversibly poweroff.target") go poweroff ;;
  is-system-running)
    cat {folder}/state; read -r word <{folder}/state; [ "$word" = running ] ;;
  is-enabled*) grep -qx "${{2}}" {folder}/enabled && echo enabled && exit 0; echo disabled; exit 1 ;;
  *) echo "System has not been booted with systemd as init system (PID 1). Can't operate." >&2; exit 1 ;;
esac
"""
_BUSCTL = """#!/bin/sh
# Answers as busctl of systemd 257 does, with what stands in the host's files.
case "$*" in
  *" ListInhibitors") printf 'a(ssssuu) %s\\n' "$(cat {folder}/inhibitors)" ;;
  *" ScheduledShutdown PreparingForShutdown")
    echo "(st) $(cat {folder}/scheduled)"
    if grep -q stopping {folder}/state; then echo "b true"; else echo "b false"; fi ;;
  *" PreparingForShutdown") if grep -q stopping {folder}/state; then echo "b true"; else echo "b false"; fi ;;
  *) echo "Call failed: Connection refused" >&2; exit 1 ;;
esac
"""
_LOCKER = """
import fcntl, sys
with open(sys.argv[1], "w") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""
_NO_INHIBITORS = "0"
_NOTHING_SCHEDULED = '"" 18446744073709551615'


def guest_kernel(kind: str, folder: Path) -> Path:
    """The tiny system ``kind`` (of :data:`GUESTS`), assembled into ``folder``, where both hosts see it."""
    built = folder / kind
    if not built.exists():
        part = folder / f"{kind}.o"
        subprocess.run(["as", "--32", "-o", part, GUESTS[kind]], check=True)
        layout = ["-m", "elf_i386", "-Ttext", "0x100000", "-e", "start", "--oformat", "binary"]
        subprocess.run(["ld", *layout, "-o", built, part], check=True)
        part.unlink()
    return built


@dataclass(frozen=True, slots=True)
class TinyVm:
    """A VM without disks. Without a ``kernel`` it sits in its firmware: it runs, migrates, and ignores an
    ACPI shutdown; with the obedient one it obeys at once, the restless one keeps changing its memory.
    """

    name: str
    kernel: Path | None = None
    memory_mib: int = 32
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    cpu: str = ""
    devices: str = ""
    """Further elements of the domain's description."""

    def xml(self) -> str:
        kernel = f"<kernel>{self.kernel}</kernel>" if self.kernel else ""
        return f"""
<domain type='qemu'>
  <name>{self.name}</name>
  <uuid>{self.uuid}</uuid>
  <memory unit='MiB'>{self.memory_mib}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>{kernel}</os>
  <features><acpi/></features>
  {self.cpu}
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {self.devices}
  </devices>
</domain>
"""


class LightHost(LibvirtHost):
    """One light host. ``boot_s``: how long a reboot keeps it away; ``silent``: its SSH port then swallows
    what comes, for which TCP waits a second before it asks again; where not, it refuses, as one whose sshd is
    not up yet. ``migration_tls``: its qemu.conf names ``tls_folder`` for the certificates of migrations.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "light",
        boot_s: float = 1.5,
        silent: bool = True,
        migration_tls: bool = False,
        **arguments: Any,
    ) -> None:
        self.name = name
        self.uuid = str(uuid.uuid4())
        self.boot_s = boot_s
        self._silent = silent
        self._migration_tls = migration_tls
        conf = {"host_uuid": f'"{self.uuid}"'} | dict(arguments.pop("conf", None) or {})
        super().__init__(folder, conf=conf, **arguments)
        # Below the ports that the kernel hands out by itself; other tests may run beside this one.
        self._first_port = random.randrange(20_000, 32_000, PORTS)
        self._black_hole: list[socket.socket] = []
        self._reapers: list[subprocess.Popen[bytes]] = []
        self._changing = threading.Lock()
        self._power_thread: threading.Thread | None = None
        self._is_on = threading.Event()

    # -- running ----------------------------------------------------------------------------------

    def start(self) -> Self:
        for name, text in (
            ("machine-id", uuid.uuid4().hex),
            ("boot_id", ""),
            ("commands", ""),
            ("refusal", ""),
            ("inhibitors", _NO_INHIBITORS),
            ("scheduled", _NOTHING_SCHEDULED),
            ("dpkg-lock", ""),
            ("enabled", ""),
            ("libvirt-guests", ""),
        ):
            (self.folder / name).write_text(f"{text}\n" if text else "")
        (self.folder / "state").write_text("running\n")
        self._new_boot_id()
        for name, script in (("systemctl", _SYSTEMCTL), ("busctl", _BUSCTL)):
            (self.folder / name).write_text(script.format(folder=self.folder))
            (self.folder / name).chmod(0o755)
        if self._migration_tls:
            # libvirtd does not start where a folder that it was told of is not there.
            self.tls_folder.mkdir(parents=True, exist_ok=True)
        os.mkfifo(self.folder / "requests")
        super().start()
        self._is_on.set()
        self._power_thread = threading.Thread(target=self._obey, name=f"power of {self.name}", daemon=True)
        self._power_thread.start()
        return self

    def _further_mounts(self) -> list[str]:
        places = {
            "boot_id": "/proc/sys/kernel/random/boot_id",
            "machine-id": "/etc/machine-id",
            "systemctl": shutil.which("systemctl") or "/usr/bin/systemctl",
            "busctl": shutil.which("busctl") or "/usr/bin/busctl",
            "dpkg-lock": "/var/lib/dpkg/lock-frontend",
            "libvirt-guests": "/etc/default/libvirt-guests",
        }
        return [f"mount --bind {self.folder / name} {place}" for name, place in places.items()]

    def _launcher(self) -> list[str]:
        return [sys.executable, "-S", str(_HERE / "reaper.py")]

    def _await_end(self, daemon: subprocess.Popen[bytes], pid: int) -> None:
        # The reaper stays as long as one of its VMs runs, which is what VMs do without their libvirtd.
        self._reapers.append(daemon)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists():
            if time.monotonic() > deadline:
                raise RuntimeError("libvirtd does not end")
            time.sleep(0.02)

    def _qemu_conf(self) -> list[str]:
        return [
            *super()._qemu_conf(),
            f"migration_port_min = {self._first_port}",
            f"migration_port_max = {self._first_port + PORTS - 1}",
            "namespaces = []",  # VMs' processes are then found in this host's own
            "cgroup_controllers = []",
            *([f'migrate_tls_x509_cert_dir = "{TLS_FOLDER}"'] if self._migration_tls else []),
        ]

    @property
    def tls_folder(self) -> Path:
        """Where the host sees :data:`TLS_FOLDER`."""
        return self.folder / "etc" / Path(TLS_FOLDER).name

    def stop(self) -> None:
        if self._power_thread is not None:
            with (self.folder / "requests").open("w") as requests:
                requests.write("quit\n")
            self._power_thread.join(30)
        with self._changing:
            if self._keeper is not None:
                self._end_everything()
            self._fill_black_hole(False)
            super().stop()

    # -- power ------------------------------------------------------------------------------------

    @property
    def boot_id(self) -> str:
        return (self.folder / "boot_id").read_text().strip()

    @property
    def power_commands(self) -> list[str]:
        """Every ``reboot`` and ``poweroff`` that was accepted so far."""
        return (self.folder / "commands").read_text().split()

    def refuse_power(self, words: str) -> None:
        """Have ``systemctl`` refuse with these words; "" makes it obey again."""
        (self.folder / "refusal").write_text(words)

    def inhibit(self, *who_and_why: tuple[str, str], mode: str = "block") -> None:
        """Have these inhibit a shutdown, as root's process 4711; none makes it free again. One in mode block
        stops root, as since systemd 257."""
        rows = [f'"shutdown:sleep" "{who}" "{why}" "{mode}" 0 4711' for who, why in who_and_why]
        (self.folder / "inhibitors").write_text(" ".join([str(len(rows)), *rows]) + "\n")

    def mutilate_boot_id(self, text: str | None) -> None:
        """Have the host show ``text`` as its boot ID; None makes it a real one again, and another."""
        if text is not None:
            (self.folder / "boot_id").write_text(f"{text}\n")
        elif not re.fullmatch(r"[0-9a-f-]{36}", self.boot_id):
            self._new_boot_id()

    @contextmanager
    def systemctl_that(self, script: str) -> Iterator[None]:
        """Another ``systemctl`` for a while, as a line of sh. Written in place: it is mounted."""
        path = self.folder / "systemctl"
        obeying = path.read_text()
        path.write_text(f"#!/bin/sh\n{script}\n")
        try:
            yield
        finally:
            path.write_text(obeying)

    def schedule_shutdown(self, mode: str, at_usec: int = 1_900_000_000_000_000) -> None:
        """As ``shutdown`` with a time would; "" cancels it."""
        text = f'"{mode}" {at_usec}' if mode else _NOTHING_SCHEDULED
        (self.folder / "scheduled").write_text(f"{text}\n")

    @contextmanager
    def installing_packages(self) -> Iterator[int]:
        """A process, whose number this gives, holds dpkg's lock, as apt does while it installs."""
        command = [*self.inside, sys.executable, "-S", "-c", _LOCKER, "/var/lib/dpkg/lock-frontend"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdin is not None and holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            try:
                yield holder.pid
            finally:
                holder.stdin.close()

    def enable_unit(self, unit: str, configuration: str | None) -> None:
        """Have ``systemctl`` call the unit enabled, with this text in libvirt-guests' file; None: not."""
        (self.folder / "enabled").write_text(f"{unit}\n" if configuration is not None else "")
        (self.folder / "libvirt-guests").write_text(configuration or "")

    @property
    def is_on(self) -> bool:
        return self._is_on.is_set()

    def wait_on(self, timeout_s: float = 20.0) -> bool:
        """Wait until it is up (again)."""
        return self._is_on.wait(timeout_s)

    def power_off(self) -> None:
        """As if the plug were pulled."""
        with self._changing:
            self._is_on.clear()
            self._end_everything()
            self._fill_black_hole(self._silent)
            for path in (self.folder / "run").iterdir():
                shutil.rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True)

    def power_on(self) -> None:
        """The power button of a host that is off."""
        with self._changing:
            self._new_boot_id()
            (self.folder / "state").write_text("running\n")
            self._fill_black_hole(False)
            self.sshd.start()
            if self._wants_libvirtd:
                self.start_libvirtd()
            self._is_on.set()

    def _new_boot_id(self) -> None:
        # Written in place: another file would not be the one that is mounted.
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")

    def _obey(self) -> None:
        descriptor = os.open(self.folder / "requests", os.O_RDWR)
        with os.fdopen(descriptor, "r") as requests:
            for line in requests:
                if line.strip() == "quit":
                    return
                time.sleep(0.2)  # systemctl itself ends and says so first
                self.power_off()
                if line.strip() == "reboot":
                    time.sleep(self.boot_s)
                    self.power_on()

    def _end_everything(self) -> None:
        """SIGKILL to all that runs inside, until nothing does."""
        assert self._keeper is not None
        deadline = time.monotonic() + 10
        while victims := [pid for pid in self.pids() if pid != self._keeper.pid]:
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in (self._daemon, *self._reapers):
                if process is not None:
                    process.poll()
            self.sshd.reap()
            if time.monotonic() > deadline:
                raise RuntimeError(f"cannot be ended: {self.pids()}")
            time.sleep(0.02)
        self._reapers = [process for process in self._reapers if process.poll() is None]
        if self._daemon is not None:
            self._daemon.wait(5)
            self._daemon = None
        self.sshd.stop()

    def _fill_black_hole(self, wanted: bool) -> None:
        """Have the SSH port swallow what comes: a listener whose queue is full answers no SYN."""
        for sock in self._black_hole:
            sock.close()
        self._black_hole.clear()
        if not wanted:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.sshd.address, self.sshd.port))
        listener.listen(0)
        self._black_hole.append(listener)
        for _ in range(2):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((self.sshd.address, self.sshd.port))
            self._black_hole.append(filler)

    def leave_to_parent(self) -> None:
        """Called in a fork made while the host is off: its copies of the sockets would keep it silent."""
        for sock in self._black_hole:
            sock.close()

    # -- VMs --------------------------------------------------------------------------------------

    def define_vm(self, vm: TinyVm) -> None:
        """Make it known, switched off."""
        self._with_xml("define", vm)

    def start_vm(self, vm: TinyVm, *, transient: bool = False) -> None:
        """Define it and switch it on."""
        if transient:
            self._with_xml("create", vm)
        else:
            self.define_vm(vm)
            self.virsh("-q", "start", vm.uuid)

    def _with_xml(self, command: str, vm: TinyVm) -> None:
        path = self.folder / f"{vm.uuid}.xml"
        path.write_text(vm.xml())
        self.virsh("-q", command, str(path))

    def vm_state(self, vm: TinyVm) -> str | None:
        """libvirt's words, as ``running`` or ``shut off``; None where this host does not know it."""
        try:
            return self.virsh("-q", "domstate", vm.uuid).strip()
        except subprocess.CalledProcessError as error:
            if "failed to get domain" in error.stderr:
                return None
            raise

    def vm_processes(self, vm: TinyVm) -> list[int]:
        """Process IDs of its QEMUs: what truly runs, whatever libvirt says."""
        wanted = f"guest={vm.name},".encode()
        found = []
        for pid, name in self.pids().items():
            if name.startswith("qemu-system"):
                with contextlib.suppress(OSError):
                    if wanted in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.append(pid)
        return found

    def remove_vms(self, *vms: TinyVm) -> None:
        """End them and their definitions, whatever is left of either."""
        for vm in vms:
            for command in ("destroy", "undefine"):
                with contextlib.suppress(subprocess.CalledProcessError):
                    self.virsh("-q", command, vm.uuid)

    def remove_all_vms(self) -> None:
        """End every VM and forget it, with whatever libvirt keeps of it."""
        for name in self.virsh("list", "--name").split():
            # The half of a migration that was broken off may just be going by itself.
            with contextlib.suppress(subprocess.CalledProcessError):
                self.virsh("-q", "destroy", name)
        for name in self.virsh("list", "--all", "--name").split():
            self.virsh("-q", "undefine", name, "--managed-save", "--snapshots-metadata")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def light_pair(folder: Path, *, count: int = 2, **arguments: Any) -> Iterator[tuple[LightHost, ...]]:
    """Light hosts that can migrate to each other, their first, slow answer behind them."""
    with contextlib.ExitStack() as stack:
        hosts: list[LightHost] = []
        for number in range(1, count + 1):
            host = LightHost(folder / f"light{number}", name=f"light{number}", **arguments)
            if hosts:
                capabilities.keep(hosts[0].folder / "cache")
            stack.enter_context(host)
            host.virsh("capabilities")
            host.virsh("domcapabilities", "--virttype", "qemu")
            hosts.append(host)
        yield tuple(hosts)


def where(hosts: Sequence[LightHost], vm: TinyVm) -> dict[str, str]:
    """The hosts that know the VM, by name, and libvirt's word for its state there."""
    states = {host.name: host.vm_state(vm) for host in hosts}
    return {name: state for name, state in states.items() if state is not None}


def assert_exactly_once(
    hosts: Sequence[LightHost], vm: TinyVm, *, on: LightHost | None = None, state: str = "running"
) -> None:
    """One host knows it, in this state, and nothing of it is left anywhere else, be it a process."""
    found = where(hosts, vm)
    assert list(found.values()) == [state], f"{vm.name}: {found}"
    if on is not None:
        assert list(found) == [on.name], f"{vm.name}: {found}"
    processes = {host.name: host.vm_processes(vm) for host in hosts}
    expected = 0 if state == "shut off" else 1
    assert sum(len(pids) for pids in processes.values()) == expected, f"{vm.name}: {processes}"


def comes_true(what: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether ``what`` is so, now or within this time."""
    deadline = time.monotonic() + within_s
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
