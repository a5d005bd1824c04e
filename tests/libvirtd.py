"""A host with libvirt, made of this machine: sshd and libvirtd in a mount namespace of their own.

Both see a /run/libvirt, /etc/libvirt, /var/lib/libvirt, … of their own, so nothing of this machine's libvirt
is touched, and several may run at once. The sockets are where they are on a real host. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import capabilities
from tests.sshd import IS_ROOT, LoopbackSshd, descendants

LIBVIRTD = shutil.which("libvirtd", path="/usr/sbin:/usr/bin") or ""
AVAILABLE = IS_ROOT and bool(LIBVIRTD) and shutil.which("unshare") is not None

_OWN = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
    "etc": "/etc/libvirt",
}


class LibvirtHost:
    """``conf`` are lines of libvirtd.conf, ``sshd`` arguments of the server in the same namespace.

    ``libvirtd`` False leaves the daemon out: a host without libvirt.
    """

    def __init__(
        self,
        folder: Path,
        *,
        conf: Mapping[str, str] | None = None,
        sshd_options: Mapping[str, str] | None = None,
        libvirtd: bool = True,
        **sshd: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.folder = folder
        self._wants_libvirtd = libvirtd
        self._conf = {"auth_unix_rw": '"none"', "unix_sock_rw_perms": '"0770"'} | dict(conf or {})
        self._keeper: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self._sshd_arguments = {"options": sshd_options, "key_types": ("ed25519",), **sshd}
        self.sshd: LoopbackSshd

    def start(self) -> Self:
        mounts = []
        for name, place in _OWN.items():
            Path(place).mkdir(parents=True, exist_ok=True)
            (self.folder / name).mkdir(exist_ok=True)
            (self.folder / name).chmod(0o755)
            mounts.append(f"mount --bind {self.folder / name} {place}")
        capabilities.lend(self.folder / "cache")
        mounts += self._further_mounts()
        (self.folder / "etc" / "qemu.conf").write_text("".join(f"{line}\n" for line in self._qemu_conf()))
        script = " && ".join([*mounts, "echo ready", "exec sleep infinity"])
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n"
        self.sshd = LoopbackSshd(self.folder / "sshd", prefix=self.inside, **self._sshd_arguments).start()
        if self._wants_libvirtd:
            self.start_libvirtd()
        return self

    def _qemu_conf(self) -> list[str]:
        # Without systemd nobody starts virtlogd for QEMU's output; and QEMU's own user may not enter here.
        return ['stdio_handler = "file"', 'security_driver = "none"', 'user = "root"', 'group = "root"']

    def _launcher(self) -> list[str]:
        """What libvirtd is run by, where anything."""
        return []

    def _further_mounts(self) -> list[str]:
        """Commands that mount more of the host's own, run inside of it before anything else."""
        return []

    @property
    def inside(self) -> tuple[str, ...]:
        """Put before a command, it runs within the host's mounts."""
        assert self._keeper is not None
        return ("nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt", "--")

    def start_libvirtd(self) -> None:
        config = self.folder / "libvirtd.conf"
        config.write_text("".join(f"{name} = {value}\n" for name, value in self._conf.items()))
        pidfile = self.folder / "libvirtd.pid"
        pidfile.unlink(missing_ok=True)
        with (self.folder / "libvirtd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*self.inside, *self._launcher(), LIBVIRTD, "-f", str(config), "-p", str(pidfile)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        socket_path = self.folder / "run" / "libvirt-sock"
        deadline = time.monotonic() + 20
        while not (socket_path.exists() and pidfile.exists() and pidfile.read_text().strip()):
            if time.monotonic() > deadline or self._daemon.poll() is not None:
                raise RuntimeError((self.folder / "libvirtd.log").read_text()[-2000:])
            time.sleep(0.05)

    def virsh(self, *arguments: str) -> str:
        """What virsh prints inside the host. A machine's first daemon takes some seconds to answer."""
        command = [*self.inside, "virsh", "-c", "qemu:///system", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def processes(self) -> list[str]:
        """Names of the processes that run inside the host."""
        return list(self.pids().values())

    def pids(self) -> dict[int, str]:
        """The processes that run inside the host, and their names."""
        assert self._keeper is not None
        own = Path(f"/proc/{self._keeper.pid}/ns/mnt").readlink()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "ns/mnt").readlink() == own:
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue
        return found

    @property
    def libvirtd_pid(self) -> int:
        return int((self.folder / "libvirtd.pid").read_text())

    def freeze_libvirtd(self) -> None:
        """libvirtd stands still: it accepts connections and answers nothing."""
        os.kill(self.libvirtd_pid, signal.SIGSTOP)

    def thaw_libvirtd(self) -> None:
        os.kill(self.libvirtd_pid, signal.SIGCONT)

    def stop_libvirtd(self, *, keep_socket: bool = False) -> None:
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return
        pid = self.libvirtd_pid
        children = descendants(pid)
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL if keep_socket else signal.SIGTERM)
        self._await_end(daemon, pid)
        capabilities.keep(self.folder / "cache")
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not keep_socket:
            for path in (self.folder / "run").glob("libvirt-*sock*"):
                path.unlink(missing_ok=True)

    def _await_end(self, daemon: subprocess.Popen[bytes], pid: int) -> None:
        daemon.wait(20)

    def stop(self) -> None:
        self.stop_libvirtd()
        self._end_vms()
        if hasattr(self, "sshd"):
            self.sshd.stop()
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait(5)
            if self._keeper.stdout is not None:
                self._keeper.stdout.close()

    def _end_vms(self) -> None:
        """What QEMU still runs: it is no child of the daemon's and outlives it."""
        for pidfile in (self.folder / "run" / "qemu").glob("*.pid"):
            pid = int(pidfile.read_text())
            try:
                if "qemu" in Path(f"/proc/{pid}/comm").read_text():
                    os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
