"""What the image of a lab host is made of, and the name that changes when any of it does."""

import hashlib
import os
import stat
from pathlib import Path

HERE = Path(__file__).parent
ROOTFS = HERE / "rootfs"
CUSTOMIZE = HERE / "customize.sh"
OBEDIENT = HERE / "obedient.S"

SUITE = "bookworm"
NEWER = "trixie"
"""Debian 13, whose systemd (257) lets block inhibitors stop root's `systemctl reboot` too."""
OVERLAYS = {NEWER: HERE / "rootfs-trixie"}
"""What a suite's image has beside ROOTFS."""
ARCHITECTURE = "amd64"
DISK_SIZE = "3G"

PACKAGES = (
    "linux-image-amd64",  # the cloud kernel lacks the drivers of the emulated hardware
    "systemd-sysv",
    "udev",
    "dbus",
    "polkitd",
    "sudo",
    "openssh-server",
    "libvirt-daemon-system",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-utils",
    "smartmontools",
    "pciutils",
    "usbutils",
    "iproute2",
    "iputils-ping",
    "ethtool",
    "nvme-cli",
    "lvm2",
    "kmod",
    "dmidecode",
    "fdisk",
    "python3",  # for a host that runs nodeadmin itself
)

# Nobody reads manuals in a host that lives for minutes; copying them costs a tenth of the build.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")

# What a laden VM has in its memory for a migration to carry.
LADEN_MIB = 32

# Raised by hand when image.py makes something else of the same ingredients.
FORMAT = 2


def files(suite: str = SUITE) -> list[Path]:
    """The files that go into the suite's image from this folder, in a fixed order."""
    trees = [ROOTFS, *([OVERLAYS[suite]] if suite in OVERLAYS else [])]
    found = [path for tree in trees for path in tree.rglob("*") if path.is_file()]
    return [CUSTOMIZE, OBEDIENT, *sorted(found)]


def recipe_hash(suite: str = SUITE) -> str:
    """Sixteen hex digits that stand for all ingredients: two images of one name are interchangeable."""
    digest = hashlib.sha256(
        repr((FORMAT, suite, ARCHITECTURE, DISK_SIZE, PACKAGES, LEFT_OUT, LADEN_MIB)).encode()
    )
    for path in files(suite):
        executable = bool(path.stat().st_mode & stat.S_IXUSR)
        digest.update(repr((str(path.relative_to(HERE)), executable)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def cache_directory() -> Path:
    """Where images and running hosts are kept, outside the tree: a fresh clone finds them ready."""
    if named := os.environ.get("NODEADMIN_CACHE"):
        return Path(named) / "lab"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nodeadmin" / "lab"
