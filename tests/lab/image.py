"""The disk image that all lab hosts start from: built once a recipe, kept in the cache, shared read-only.

A directory of the cache named after the recipe holds a whole image or does not exist: it is built under
another name and renamed at the end, so an interrupted build is thrown away by the next one.
"""

import contextlib
import fcntl
import json
import logging
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.lab import apt_sources, recipe
from tests.lab.errors import LabError

logger = logging.getLogger(__name__)

_BUILD_DEADLINE_S = 1800
_LOCK_DEADLINE_S = 2400
_BUILDING = "building-"
KEY_USERS = ("root", "ops", "limited", "virt")


@dataclass(frozen=True)
class Image:
    """A whole image: the disk, what boots it, and what opens the hosts that run it."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"

    @property
    def private_key(self) -> Path:
        """Opens root, ops, limited and virt."""
        return self.directory / "id_ed25519"

    @property
    def password(self) -> str:
        """Of the user pw, who has no key."""
        return (self.directory / "password").read_text().strip()

    def is_whole(self) -> bool:
        return (self.directory / "build.json").exists()

    def hold(self) -> IO[bytes]:
        """An open file whose lock keeps this image from being purged for as long as anybody has it open.

        QEMU inherits it, so that a host outlives the command that started it.
        """
        handle = (self.directory / "in-use").open("wb")
        fcntl.flock(handle, fcntl.LOCK_SH)
        return handle


def acquire(suite: str = recipe.SUITE) -> tuple[Image, IO[bytes]]:
    """Today's image of ``suite``, built if need be, and its hold; several callers at once build it once."""
    image = Image(recipe.cache_directory() / recipe.recipe_hash(suite))
    image.directory.parent.mkdir(parents=True, exist_ok=True)
    with _cache_lock(image.directory.parent):
        if not image.directory.exists():
            _build(image.directory, suite)
        hold = image.hold()
        _purge(image.directory.parent)
    return image, hold


@contextlib.contextmanager
def _cache_lock(cache: Path) -> Iterator[None]:
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    with (cache / "lock").open("wb") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"another build of the image has held {handle.name} for too long"
                    ) from None
                time.sleep(0.5)
        yield


def _purge(cache: Path) -> None:
    """Removes builds that were interrupted, and images of other recipes that no host runs."""
    today = {recipe.recipe_hash(suite) for suite in (recipe.SUITE, recipe.NEWER)}
    for entry in cache.iterdir():
        if entry.name.startswith(_BUILDING):
            shutil.rmtree(entry)
        elif entry.name not in today and Image(entry).is_whole():
            with (entry / "in-use").open("wb") as handle, contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry)


def _build(target: Path, suite: str) -> None:
    if os.geteuid() != 0:
        raise LabError(
            "building the image of the lab hosts needs root; run `sudo -E script/lab prepare` once"
        )
    for tool in ("mmdebstrap", "mke2fs", "ssh-keygen", "as", "ld"):
        if shutil.which(tool) is None:
            raise LabError(f"{tool} is missing; `script/lab prepare` installs what the lab needs")
    logger.info(
        "building the image of the lab hosts (%s), once: %s packages and what they need",
        suite,
        len(recipe.PACKAGES),
    )
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=target.parent))
    root = work / "root"
    log = target.parent / "build.log"
    try:
        _make_key(work)
        with log.open("wb") as output:
            _bootstrap(root, suite, output)
            _open_users(root, work, output)
            _assemble(root, work, output)
            seconds_to_tree = time.monotonic() - started
            _make_disk(root, work, output)
    except subprocess.SubprocessError as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise LabError(f"the image could not be built: {error}\n{tail}\nThe whole log: {log}") from error
    finally:
        shutil.rmtree(root, ignore_errors=True)
    seconds = time.monotonic() - started
    facts = {
        "recipe": target.name,
        "seconds": round(seconds, 1),
        "seconds_to_tree": round(seconds_to_tree, 1),
    }
    (work / "build.json").write_text(json.dumps(facts, indent=1) + "\n")
    work.rename(target)
    logger.info("built %s in %.0f s", target, seconds)


def _make_key(work: Path) -> None:
    _run(
        [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "nodeadmin-lab",
            "-f",
            str(work / "id_ed25519"),
        ],
        subprocess.DEVNULL,
    )
    password = work / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(12) + "\n")


def _bootstrap(root: Path, suite: str, output: IO[bytes]) -> None:
    trees = [recipe.ROOTFS, *([recipe.OVERLAYS[suite]] if suite in recipe.OVERLAYS else [])]
    settings = (f"--aptopt={line}" for line in apt_sources.transport_settings())
    excluded = (f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.LEFT_OUT)
    _run(
        [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            f"--architectures={recipe.ARCHITECTURE}",
            f"--include={','.join(recipe.PACKAGES)}",
            *settings,
            *excluded,
            # Before the kernel comes, which then makes its initrd once, and in the way these files ask for.
            *(f'--essential-hook=cp -R {shlex.quote(str(tree))}/. "$1"' for tree in trees),
            f'--customize-hook=cp {shlex.quote(str(recipe.CUSTOMIZE))} "$1/customize"',
            '--customize-hook=chroot "$1" /customize',
            '--customize-hook=rm "$1/customize"',
            suite,
            str(root),
            *apt_sources.mirror_lines(suite),
        ],
        output,
    )


def _open_users(root: Path, work: Path, output: IO[bytes]) -> None:
    public_key = (work / "id_ed25519.pub").read_text()
    for user in KEY_USERS:
        home = root / "root" if user == "root" else root / "home" / user
        owner = home.stat()
        directory = home / ".ssh"
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        keys = directory / "authorized_keys"
        keys.write_text(public_key)
        keys.chmod(0o600)
        for path in (directory, keys):
            os.chown(path, owner.st_uid, owner.st_gid)
    # Over standard input: an argument would stand in the process list.
    password = (work / "password").read_text()
    _run(["chroot", str(root), "chpasswd"], output, stdin_text=f"pw:{password}")


def _assemble(root: Path, work: Path, output: IO[bytes]) -> None:
    """Puts the little systems of vm.py's obedient machines into the image."""
    directory = root / "usr/share/lab"
    directory.mkdir(parents=True)
    built = work / "obedient.o"
    for name, options in (("obedient", []), ("laden", ["--defsym", f"LADEN_MIB={recipe.LADEN_MIB}"])):
        target = directory / name
        _run(["as", "--32", *options, "-o", str(built), str(recipe.OBEDIENT)], output)
        linked = ["ld", "-m", "elf_i386", "-Ttext", "0x100000", "-e", "start", "--oformat", "binary"]
        _run([*linked, "-o", str(target), str(built)], output)
        # Readable by the user that libvirt runs QEMU as.
        target.chmod(0o644)
        built.unlink()


def _make_disk(root: Path, work: Path, output: IO[bytes]) -> None:
    shutil.copy(next((root / "boot").glob("vmlinuz-*")), work / "vmlinuz")
    shutil.copy(next((root / "boot").glob("initrd.img-*")), work / "initrd.img")
    # The mode of this directory becomes that of the host's `/`: closed, nobody but root would get in.
    root.chmod(0o755)
    # Initialized here, where it costs nothing: a sparse file reads as zeros. Else the first boot does it.
    extended = "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"
    _run(
        [
            *("mke2fs", "-q", "-t", "ext4", "-L", "lab-root", "-E", extended),
            *("-d", str(root), str(work / "disk.img"), recipe.DISK_SIZE),
        ],
        output,
    )


def _run(command: list[str], output: IO[bytes] | int, stdin_text: str = "") -> None:
    subprocess.run(
        command,
        check=True,
        input=stdin_text.encode(),
        stdout=output,
        stderr=subprocess.STDOUT,
        timeout=_BUILD_DEADLINE_S,
        env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
    )
