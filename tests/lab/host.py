"""One lab host: started, reached, hurt and ended."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests import patience
from tests.lab import hardware
from tests.lab.errors import LabError
from tests.lab.hardware import HostSpec, Wiring
from tests.lab.image import Image
from tests.lab.network import Switch, free_port
from tests.lab.qmp import Monitor
from tests.lab.ssh import SshClient
from tests.patience import Deadline

# Half a minute where nothing else runs; machines that run several labs and test suites at once take minutes.
BOOT_DEADLINE_S = 600.0
_END_DEADLINE_S = 20.0
_POLL_S = 0.5
_BIND_CARDS = r"""
for round in 1 2 3 4 5; do
  missing=
  for device in /sys/bus/pci/devices/*; do
    read -r class <$device/class; read -r vendor <$device/vendor
    [ "$class $vendor" = '0x020000 0x8086' ] || continue
    [ -d $device/net ] && continue
    missing="$missing ${device##*/}"
    modprobe e1000e
    echo ${device##*/} >/sys/bus/pci/drivers/e1000e/bind
  done 2>/dev/null
  [ "$missing" ] || break
  sleep 3
done
[ ! "$missing" ] || { echo "without an interface: $missing"; exit 1; }
[ -d /sys/class/net/bond0 ] || exit 0
for second in $(seq 80); do
  set -- $(cat /sys/class/net/bond0/bonding/slaves)
  [ $# = 2 ] && exit 0
  # Where making the bond timed out, networkd gives it no ports until it is started anew.
  [ $second != 20 ] || systemctl restart systemd-networkd
  sleep 1
done
echo "ports of bond0: $*"
exit 1
"""


class LabHost:
    """A Debian machine under QEMU, reachable over SSH at 127.0.0.1:`ssh_port`.

    All that must outlive the process which started it stands in its directory, so any other process can make
    an object for the same directory and go on. Its disk keeps what was written to it, over a power cut too,
    until `start(fresh=True)`.
    """

    address = "127.0.0.1"

    def __init__(self, spec: HostSpec, directory: Path, switch: Switch) -> None:
        self.spec = spec
        self.directory = directory
        self._switch = switch
        self._process: subprocess.Popen[bytes] | None = None
        self._started = time.monotonic()
        self._wiring = self._load_wiring()

    # --- what others need to reach it ---

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def image(self) -> Image:
        """The image that its disk is based on, whatever the recipe says by now. LabError before the first
        start.
        """
        image = Image((self.directory / hardware.IMAGE).resolve())
        if not image.is_whole():
            raise LabError(f"the lab host {self.name} has no image, or it is gone: start the host afresh")
        return image

    @property
    def ssh_port(self) -> int:
        return self._wiring.ssh_port

    @property
    def identity(self) -> uuid.UUID:
        """Its firmware's UUID."""
        return self._wiring.identity

    @property
    def private_key(self) -> Path:
        """An unencrypted ed25519 key that opens root, ops, limited and virt."""
        return self.image.private_key

    @property
    def password(self) -> str:
        """Of the user pw, who may log in with nothing else."""
        return self.image.password

    @property
    def lan_address(self) -> str:
        return self.spec.lan_address

    @property
    def ssh(self) -> SshClient:
        return SshClient(self.ssh_port, self.private_key, self.directory / "known_hosts")

    @property
    def fingerprints(self) -> dict[str, str]:
        """Host keys by type, as `{"ssh-ed25519": "SHA256:…"}`; known once `wait_for_ssh` has returned."""
        return self.ssh.fingerprints()

    def uri(self, user: str = "root") -> str:
        """The libvirt URI that nodeadmin takes for this host."""
        return f"qemu+ssh://{user}@{self.address}:{self.ssh_port}/system"

    # --- life and death ---

    def is_running(self) -> bool:
        return self._pid() is not None

    def start(self, *, fresh: bool = False, image: Image | None = None) -> None:
        """Switches the host on and returns at once; `fresh` gives it a new disk, identity and host keys.

        `image` is what a fresh disk is based on, its last one without. Raises LabError where QEMU ends
        right away.
        """
        if self.is_running():
            raise LabError(f"the lab host {self.name} is already running")
        base = image or self.image
        if fresh:
            shutil.rmtree(self.directory, ignore_errors=True)
            self._wiring = self._load_wiring()
            self._make_disks(base)
        self._link(hardware.LAN, self._switch.socket_directory)
        self._switch.start()
        (self.directory / hardware.MONITOR).unlink(missing_ok=True)
        # QEMU inherits the hold, so the image stays for as long as the host runs.
        with self.image.hold() as hold, (self.directory / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                hardware.command(self.spec, self._wiring),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[hold.fileno()],
                start_new_session=True,
            )
        self._started = time.monotonic()
        (self.directory / "pid").write_text(f"{self._process.pid}\n")
        self._wait_for_monitor()

    def power_cut(self) -> None:
        """Ends the host as pulling its plug would, and returns when it is gone."""
        pid = self._pid()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.wait_for_end(_END_DEADLINE_S)

    def press_power_button(self) -> None:
        """Asks the host's system to power off, as its front button does."""
        self._command("system_powerdown")

    def reset(self) -> None:
        """Restarts the machine without asking its system."""
        self._command("system_reset")

    def freeze(self) -> None:
        """Stops all its processors: it answers nothing, while its connections stay open."""
        self._command("stop")

    def thaw(self) -> None:
        self._command("cont")

    def wait_for_end(self, deadline_s: float = 120) -> None:
        """Returns once the machine is off. Raises LabError where it is still on after the deadline."""
        deadline = Deadline(deadline_s)
        while self.is_running():
            if deadline.over():
                raise LabError(f"the lab host {self.name} was still running after {deadline.seconds:.0f} s")
            time.sleep(0.1)

    def mend(self) -> None:
        """Undoes power cut, freeze and cut cables, and returns when the host answers SSH: at once if all was
        well.
        """
        if not self.is_running():
            self.start()
        self.thaw()
        with self.monitor() as monitor:
            for name in self.spec.cables:
                monitor.execute("set_link", name=name, up=True)
        if not self.ssh.answers():
            self.wait_for_ssh()

    # --- network and devices ---

    def cut_network(self) -> None:
        """Unplugs the cable that SSH goes over: nothing reaches the host, and no connection is told.

        A new connection to `ssh_port` is still accepted, by QEMU, and then hears nothing.
        """
        self._command("set_link", name="management", up=False)

    def restore_network(self) -> None:
        self._command("set_link", name="management", up=True)

    def set_link(self, name: str, *, up: bool) -> None:
        """Plugs or unplugs another cable: `lan`, or the rich host's `bond_first` and `bond_second`."""
        self._command("set_link", name=name, up=up)

    def plug(self, driver: str, name: str, **properties: object) -> None:
        """Adds a device while the host runs: `plug("usb-kbd", "kbd", bus="usb.0", port="1.2")`.

        `slot0` is a free PCI Express slot of every host; the rich one has `slot1` too.
        """
        self._command("device_add", driver=driver, id=name, **properties)

    def unplug(self, name: str) -> None:
        """Removes a device, and returns when the host has let go of it."""
        with self.monitor() as monitor:
            monitor.execute("device_del", id=name)
            monitor.wait_for_event("DEVICE_DELETED", device=name)

    def monitor(self) -> Monitor:
        """QEMU's own monitor, for what has no method here."""
        return Monitor(self.directory / hardware.MONITOR)

    def _command(self, command: str, **arguments: object) -> None:
        with self.monitor() as monitor:
            monitor.execute(command, **arguments)

    # --- SSH ---

    def run(
        self,
        command: str | Sequence[str],
        *,
        user: str = "root",
        stdin: str | None = None,
        timeout_s: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host with OpenSSH's client; see SshClient.run."""
        return self.ssh.run(command, user=user, stdin=stdin, timeout_s=timeout_s, check=check)

    def wait_for_ssh(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        """Returns once root can log in; its host keys are then known. Raises LabError after the deadline."""
        self._wait(lambda: self.ssh.answers() and self._learn_host_keys(), deadline_s, "answer over SSH")

    def wait_until_ready(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        """Returns once the host has finished starting: virtual functions, bond and disks are in place."""
        deadline = Deadline(deadline_s)
        self.wait_for_ssh(deadline_s)
        rest = max(1.0, deadline_s - deadline.waited_s)
        try:
            state = self.run("systemctl is-system-running --wait", timeout_s=rest, check=False).stdout.strip()
        except subprocess.TimeoutExpired:
            raise LabError(f"the lab host {self.name} was still starting after {deadline_s:.0f} s") from None
        if state != "running":
            failed = self.run("systemctl --failed --no-legend --plain", check=False).stdout.strip()
            raise LabError(f"the lab host {self.name} has come up {state}: {failed}")
        self._bind_cards()
        patience.note_boot(time.monotonic() - self._started)

    def _bind_cards(self) -> None:
        """Binds network cards that the driver gave up on: starved of processor time, its reset times out.

        A bond of no ports would else make every test of the network fail, none for a reason of its own.
        """
        done = self.run(_BIND_CARDS, timeout_s=180, check=False)
        if done.returncode != 0:
            raise LabError(f"the lab host {self.name} has cards that do not start: {done.stdout.strip()}")

    def boot_id(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id").stdout.strip()

    def wait_for_reboot(self, old_boot_id: str, deadline_s: float = BOOT_DEADLINE_S) -> str:
        """Waits for a boot ID other than the given one, and gives it."""
        found = ""

        def rebooted() -> bool:
            nonlocal found
            answer = (
                self.run("cat /proc/sys/kernel/random/boot_id", check=False) if self.ssh.answers() else None
            )
            found = answer.stdout.strip() if answer else ""
            return found not in ("", old_boot_id)

        self._wait(rebooted, deadline_s, "come back with another boot ID")
        return found

    @contextlib.contextmanager
    def without_tools(self, *tools: str) -> Iterator[None]:
        """The host as if these commands were not installed, for as long as the block runs."""
        hide = 'for tool; do path=$(command -v "$tool") && mv "$path" "$path.hidden"; done'
        show = (
            "for tool; do for path in /usr/sbin/$tool /usr/bin/$tool /sbin/$tool /bin/$tool; do "
            'if [ -e "$path.hidden" ]; then mv "$path.hidden" "$path"; fi; done; done'
        )
        self.run(["sh", "-c", hide, "hide", *tools])
        try:
            yield
        finally:
            self.run(["sh", "-c", show, "show", *tools])

    def _learn_host_keys(self) -> bool:
        known = self.directory / "known_hosts"
        if known.exists() and known.stat().st_size:
            return self.run("true", check=False).returncode == 0
        # Nobody else can sit on this port: QEMU holds it. So the first word about the keys may come over it.
        answer = self.ssh.run("cat /etc/ssh/ssh_host_*_key.pub", check=False, check_host_key=False)
        if answer.returncode == 0:
            self.ssh.remember(answer.stdout)
        return answer.returncode == 0

    def _wait(self, done: Callable[[], bool], deadline_s: float, what: str) -> None:
        deadline = Deadline(deadline_s)
        while True:
            # An attempt that hangs counts as one that failed.
            with contextlib.suppress(subprocess.TimeoutExpired):
                if done():
                    return
            if not self.is_running():
                raise LabError(f"the lab host {self.name} has ended; its console: {self.console_tail()}")
            if deadline.over():
                raise LabError(
                    f"the lab host {self.name} did not {what} within {deadline.seconds:.0f} s; "
                    f"its console: {self.console_tail()}"
                )
            time.sleep(_POLL_S)

    def console_tail(self, lines: int = 10) -> str:
        """The last of what QEMU and the host's kernel said."""
        said = []
        for name in ("qemu.log", hardware.CONSOLE):
            with contextlib.suppress(FileNotFoundError):
                said += (self.directory / name).read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(said)

    # --- files and processes ---

    def _load_wiring(self) -> Wiring:
        path = self.directory / "wiring.json"
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_text(json.dumps({"identity": str(uuid.uuid4()), "ssh_port": free_port()}))
        stored = json.loads(path.read_text())
        return Wiring(uuid.UUID(stored["identity"]), stored["ssh_port"])

    def _make_disks(self, image: Image) -> None:
        self._link(hardware.IMAGE, image.directory)
        backing = f"{hardware.IMAGE}/disk.img"
        self._qemu_img("create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw", hardware.DISK)
        if self.spec.rich:
            for name, size in hardware.SPARE_DISKS.items():
                self._qemu_img("create", "-q", "-f", "raw", f"{name}.img", size)

    def _link(self, name: str, target: Path) -> None:
        link = self.directory / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)

    def _qemu_img(self, *arguments: str) -> None:
        if shutil.which("qemu-img") is None:
            raise LabError("qemu-img is missing; `script/lab prepare` installs what the lab needs")
        subprocess.run(
            ["qemu-img", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=60
        )

    def _wait_for_monitor(self) -> None:
        deadline = Deadline(_END_DEADLINE_S)
        while not (self.directory / hardware.MONITOR).exists():
            if not self.is_running() or deadline.over():
                raise LabError(f"QEMU did not start the lab host {self.name}: {self.console_tail()}")
            time.sleep(0.02)

    def _pid(self) -> int | None:
        """QEMU's process, or None: a number that now belongs to another process does not count."""
        if self._process is not None:
            # Our own child: certain, also in the instant in which its command line cannot be read yet.
            if self._process.poll() is None:
                return self._process.pid
            self._process = None
        try:
            pid = int((self.directory / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self.identity).encode() in command else None
