"""nodeadmin on a lab host, which it manages as its local node: a unit that comes back by itself.

The checkout and the packages that a server needs come as a read-only disk, plugged into the running host:
made in seconds, it needs neither the network nor a package index there. Python is in the image.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.browser.serving import ROOT, Server
from tests.lab.host import LabHost
from tests.lab.network import free_port
from tests.patience import Deadline

MOUNT = "/opt/nodeadmin"
PORT, SHIPPED_PORT = 8000, 8001
_SERIAL = "LABCODE"
_CODE = ("nodes", "nodeadmin", "templates", "static")
_LOCAL_UNIT = f"""
[Unit]
Description=nodeadmin, of its own host
After=libvirtd.service
RequiresMountsFor={MOUNT}

[Service]
# An emulated host that does everything itself takes its time.
Environment=PYTHONPATH={MOUNT}/packages DJANGO_SETTINGS_MODULE=nodeadmin.settings.local
Environment=NODEADMIN_DATA_DIR=/var/lib/nodeadmin-local NODEADMIN_HOST_TIMEOUT_S=60
Environment=NODEADMIN_PROBE_TIMEOUT_S=240 NODEADMIN_REFRESH_S=0
ExecStart=/usr/bin/python3 {MOUNT}/code/manage.py serve --port {PORT}
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""
_SHIPPED_PATHS = f"""
[Service]
WorkingDirectory={MOUNT}/code
Environment=PYTHONPATH={MOUNT}/packages
Environment=NODEADMIN_HOST_TIMEOUT_S=60 NODEADMIN_PROBE_TIMEOUT_S=240 NODEADMIN_REFRESH_S=0
ExecStart=
ExecStart=/usr/bin/python3 manage.py serve --port {SHIPPED_PORT}
"""
_MOUNT_DISK = f"""set -e
udevadm wait --timeout=60 /dev/disk/by-id/virtio-{_SERIAL}
mkdir -p {MOUNT}
echo '/dev/disk/by-id/virtio-{_SERIAL} {MOUNT} ext4 ro,nofail 0 0' >>/etc/fstab
mount {MOUNT}
"""
_START_LOCAL = f"""set -e
cp -a {MOUNT}/data /var/lib/nodeadmin-local
cat >/etc/systemd/system/nodeadmin-local.service
systemctl daemon-reload
systemctl enable --now --quiet nodeadmin-local.service
"""
_START_SHIPPED = f"""set -e
getent passwd nodeadmin >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin nodeadmin
cp -a {MOUNT}/data /var/lib/nodeadmin
chown -R nodeadmin: /var/lib/nodeadmin
install -m 0700 -d /etc/nodeadmin /etc/systemd/system/nodeadmin.service.d
mv /var/lib/nodeadmin/secrets/django-key /etc/nodeadmin/secret-key
mv /var/lib/nodeadmin/secrets/seal-keys /var/lib/nodeadmin/secrets/audit-key /etc/nodeadmin/
chown root: /etc/nodeadmin/*
cp {MOUNT}/code/systemd/environment.single /etc/nodeadmin/environment
sed -i 's/^NODEADMIN_ALLOWED_HOSTS=.*/NODEADMIN_ALLOWED_HOSTS=127.0.0.1/' /etc/nodeadmin/environment
echo NODEADMIN_SSL_REDIRECT=no >>/etc/nodeadmin/environment
cp {MOUNT}/code/systemd/nodeadmin.service /etc/systemd/system/
cat >/etc/systemd/system/nodeadmin.service.d/paths.conf
systemctl daemon-reload
systemctl start nodeadmin.service
"""
_STOP_SHIPPED = """
systemctl stop nodeadmin.service
rm -rf /etc/systemd/system/nodeadmin.service* /var/lib/nodeadmin /etc/nodeadmin
systemctl daemon-reload
"""
_REMOVE = f"""
systemctl disable --now --quiet nodeadmin-local.service
rm -rf /etc/systemd/system/nodeadmin-local.service /var/lib/nodeadmin-local
umount {MOUNT}
sed -i '\\#{MOUNT}#d' /etc/fstab
systemctl daemon-reload
systemctl reset-failed
"""


def install(host: LabHost, folder: Path) -> str:
    """Plug nodeadmin into the host; gives a token for the API of whatever is then started."""
    data = Server(folder / "disk" / "data")
    data.prepare()
    token = data.token()
    image = _make_disk(folder)
    with host.monitor() as monitor:
        file = {"driver": "file", "filename": str(image), "read-only": True}
        monitor.execute(
            "blockdev-add", **{"driver": "raw", "node-name": "code", "read-only": True, "file": file}
        )
    host.plug("virtio-blk-pci", "code", bus="slot0", drive="code", serial=_SERIAL)
    host.run(_MOUNT_DISK, timeout_s=180)
    return token


def start_local(host: LabHost) -> None:
    """Start a nodeadmin that has its host as the local node, also after a boot. Does not wait for it."""
    host.run(_START_LOCAL, stdin=_LOCAL_UNIT, timeout_s=180)


@contextlib.contextmanager
def shipped_unit(host: LabHost) -> Iterator[str]:
    """The unit and settings that the product ships, as they are but for paths; gives the server's address."""
    host.run(_START_SHIPPED, stdin=_SHIPPED_PATHS, timeout_s=180)
    try:
        with reached(host, SHIPPED_PORT, unit="nodeadmin") as url:
            yield url
    finally:
        host.run(_STOP_SHIPPED, check=False, timeout_s=120)


def remove(host: LabHost) -> None:
    """Undo what :func:`install` did."""
    host.run(_REMOVE, check=False, timeout_s=120)
    host.unplug("code")
    with host.monitor() as monitor:
        monitor.execute("blockdev-del", **{"node-name": "code"})


@contextlib.contextmanager
def reached(
    host: LabHost, server_port: int = PORT, *, unit: str = "nodeadmin-local", timeout_s: float = 240
) -> Iterator[str]:
    """The address at which the server on the host answers, for as long as the block runs."""
    port = free_port()
    forward = host.ssh.command("root")
    process = subprocess.Popen(
        [
            forward[0],
            "-N",
            "-oExitOnForwardFailure=yes",
            f"-L127.0.0.1:{port}:127.0.0.1:{server_port}",
            *forward[1:],
        ],
        stdin=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(host, url, unit, timeout_s)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(host: LabHost, url: str, unit: str, timeout_s: float) -> None:
    deadline = Deadline(timeout_s)
    while not deadline.over():
        try:
            with urllib.request.urlopen(f"{url}/login/", timeout=30):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    said = host.run(f"journalctl -u {unit} -n 40 --no-pager -o cat", check=False).stdout
    raise AssertionError(
        f"nodeadmin on {host.name} did not answer within {deadline.seconds:g} s: {said[-3000:]}"
    )


def _make_disk(folder: Path) -> Path:
    """A file system with the data directory that is there already, the code, and the pinned packages."""
    tree = folder / "disk"
    for name in _CODE:
        shutil.copytree(ROOT / name, tree / "code" / name)
    shutil.copytree(ROOT / "docs" / "systemd", tree / "code" / "systemd")
    shutil.copy2(ROOT / "manage.py", tree / "code")
    # Nothing can be written there, and the emulated host would compile all of it at every start.
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tree / "code")], check=True, timeout=120)
    for distribution in _distributions():
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." in file.parts or not source.is_file():
                continue
            target = tree / "packages" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            # With its time: the compiled files stay valid, which saves the emulated host a minute.
            shutil.copy2(source, target)
    image = folder / "code.img"
    used = int(
        subprocess.run(["du", "-sm", tree], check=True, capture_output=True, text=True).stdout.split()[0]
    )
    subprocess.run(
        [
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-d",
            str(tree),
            str(image),
            f"{used * 3 // 2 + 16}M",
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    shutil.rmtree(tree)
    return image


def _distributions() -> Iterator[importlib.metadata.Distribution]:
    """What requirements/base.txt pins, but for what this platform does not have."""
    for line in (ROOT / "requirements" / "base.txt").read_text().splitlines():
        if found := re.match(r"[A-Za-z0-9._-]+(?===)", line):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                yield importlib.metadata.distribution(found[0])
