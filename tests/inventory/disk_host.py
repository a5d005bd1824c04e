"""A host's disks written by hand, in the words of the kernel and of lsblk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from nodes.inventory.disk_facts import Disk, DisksFacts, Volume
from nodes.inventory.disks import parse
from nodes.inventory.document import HostDocument, SourceOutput, SourceStatus

AT = "2025-03-01T10:00:00+00:00"
PCI = "/sys/devices/pci0000:00/0000:00:1f.2"


class DiskHost:
    """Sources of the section ``disks`` that grow by what is added. Numbers of devices are given in order."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.links: list[str] = []
        self.mounts: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.texts: dict[str, str] = {}
        self.outputs: dict[str, SourceOutput] = {}
        self._number = 0

    def block(
        self, name: str, path: str, *, size: int = 1 << 30, files: Mapping[str, Any] | None = None, **row: Any
    ) -> str:
        """A block device at ``path`` (its directory is appended); gives its path."""
        self._number += 1
        base, real = f"/sys/class/block/{name}", f"{path}/{name}"
        self.files += [f"{base}/size:{size // 512}", f"{base}/dev:250:{self._number}"]
        self.files += [f"{base}/{file}:{value}" for file, value in (files or {}).items()]
        self.links.append(f"{base} -> {real}")
        self.rows.append({"name": name, "kname": name, "size": size, "type": "disk"} | row)
        return real

    def sata(self, name: str, port: int = 1, **more: Any) -> str:
        path = f"{PCI}/ata{port}/host{port}/target{port}:0:0/{port}:0:0:0/block"
        files = {"device/vendor": "ATA     ", "queue/rotational": 1, "removable": 0} | more.pop("files", {})
        return self.block(name, path, files=files, **more)

    def partition(self, disk: str, number: int, path: str, name: str = "", **more: Any) -> str:
        """A partition of ``disk``, whose device is at ``path``."""
        files = {"partition": number, "start": 2048} | more.pop("files", {})
        return self.block(name or f"{disk}{number}", path, files=files, **({"type": "part"} | more))

    def volume(
        self, name: str, below: Iterable[str], *, known_as: str = "", uuid: str = "", **more: Any
    ) -> None:
        files = {"dm/name": known_as, "dm/uuid": uuid} if known_as else {}
        self.block(name, "/sys/devices/virtual/block", files=files | more.pop("files", {}), **more)
        for lower in below:
            target = f"/sys/devices/virtual/block/{name}"
            self.links.append(f"/sys/class/block/{lower}/holders/{name} -> {target}")

    def mount(self, name: str, point: str, kind: str = "ext4", source: str = "") -> None:
        number = next(
            (
                line.rpartition("dev:")[2]
                for line in self.files
                if line.startswith(f"/sys/class/block/{name}/dev:")
            ),
            "0:77",
        )
        where = point.replace(" ", "\\040")
        line = (
            f"{30 + len(self.mounts)} 1 {number} / {where} rw shared:1 - {kind} {source or '/dev/' + name} rw"
        )
        self.mounts.append(f"/proc/self/mountinfo:{line}")

    def smart(self, item: str, tree: Mapping[str, Any] | str, status: SourceStatus = SourceStatus.OK) -> None:
        text = tree if isinstance(tree, str) else json.dumps(tree)
        name = f"disk-smart:{item}"
        self.outputs[name] = SourceOutput(name, status, text, "", 0, 0.1)

    def pool(self, name: str, kind: str, xml: str) -> None:
        rows = json.loads(self.texts.get("libvirt:pools", "[]"))
        uuid = f"pool-{name}"
        rows.append({"uuid": uuid, "name": name, "state": 2, "capacity_bytes": 1, "allocation_bytes": 0})
        self.texts["libvirt:pools"] = json.dumps(rows)
        self.texts[f"libvirt:pool:{uuid}"] = f"<pool type='{kind}'><name>{name}</name>{xml}</pool>"

    def document(self) -> HostDocument:
        files = "".join(f"{line}\n" for line in (*self.files, *self.mounts))
        links = "".join(f"lrwxrwxrwx 1 0  {line}\n" for line in self.links)
        texts = {"use-files": files, "use-links": links, "disk-files": files}
        texts |= {"disk-lsblk": json.dumps({"blockdevices": self.rows})} | self.texts
        ok = SourceStatus.OK
        outputs = {name: SourceOutput(name, ok, text, "", 0, 0.0) for name, text in texts.items()}
        return HostDocument(AT, outputs | self.outputs, "test", "root")

    def facts(self) -> DisksFacts:
        parsed = parse(self.document())
        assert parsed.problems == ()
        return parsed.facts

    def disk(self, name: str) -> Disk:
        return disk_of(self.facts(), name)


def disk_of(facts: DisksFacts, name: str) -> Disk:
    return next(disk for disk in facts.disks if disk.name == name)


def volume_of(facts: DisksFacts, name: str) -> Volume:
    return next(volume for volume in facts.volumes if volume.name == name)
