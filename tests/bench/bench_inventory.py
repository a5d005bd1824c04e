"""A whole inventory over SSH against OpenSSH's bare ``ssh host true`` to the same sshd, in turn.

Cold: connect, verify, authenticate, the probe of all sections, libvirt's part, parsing. Warm: the same on a
connection that stands. A source that is missing where it must be there fails the figure: an inventory that
reads less is no faster. Parsing the largest recorded host is set against the lab host's cold inventory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nodes.hosts.connection import connect
from nodes.hosts.host_key_scan import scan_host_keys
from nodes.hosts.libvirt_facts import LastGood
from nodes.hosts.probe import collect
from nodes.hosts.target import HostTarget, SshKeyCredential
from nodes.inventory.build import build
from nodes.inventory.document import HostDocument, SourceStatus
from nodes.inventory.registry import SECTIONS
from tests.bench.figures import Report, alternate, ms, ratio
from tests.inventory.documents import host_document
from tests.network import ANYWHERE

if TYPE_CHECKING:
    from tests.lab.host import LabHost

COLD, WARM, LAB, PARSE = 1.2, 0.4, 2.0, 0.1
GOOD = (SourceStatus.OK, SourceStatus.FAILED, SourceStatus.TRUNCATED)
OPTIONAL = {name for section in SECTIONS for name in section.optional}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-lab", action="store_true", help="leave the lab host out")
    options = parser.parse_args()
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        loopback(report, Path(folder), options.rounds)
    if not options.no_lab:
        lab(report, max(5, options.rounds // 3))
    report.finish()


def loopback(report: Report, folder: Path, rounds: int) -> None:
    """An sshd and a libvirtd of its own, with the configuration that the tests write for them."""
    from tests.libvirtd import LibvirtHost
    from tests.sshd import ME

    with LibvirtHost(folder / "host") as host:
        sshd = host.sshd
        floor = openssh(sshd.user_key, ME, sshd.port, folder)
        target = sshd.target()
        last_good = LastGood()
        with connect(target) as standing:
            document = collect(standing, SECTIONS, last_good=last_good)
            document = collect(standing, SECTIONS, last_good=last_good)
            sources(report, document)
            cold_runs, warm_runs = Runs(), Runs()
            times = alternate(
                {
                    "floor": floor,
                    "cold": lambda: cold(target, last_good, cold_runs),
                    "warm": lambda: warm_runs.add(collect(standing, SECTIONS, last_good=last_good)),
                },
                rounds,
            )
    behind = f"ssh true: {ms(times['floor'])}"
    for name, limit, runs in (("cold", COLD, cold_runs), ("warm", WARM, warm_runs)):
        if runs.missing:
            report.failed(f"inventory_{name}_loopback", f"missing: {', '.join(sorted(runs.missing))}")
        else:
            took = f"{name}: {ms(times[name])}; {behind}; {runs.said()}"
            report.figure(f"inventory_{name}_loopback", ratio(times[name], times["floor"]), limit, took)


def lab(report: Report, rounds: int) -> None:
    """The lab's plain host, whose processors are emulated, each in a thread of its own; and for comparison
    its rich one, whose six disks are asked for their SMART values besides."""
    from tests.lab.lab import Lab

    for name in ("plain", "rich"):
        lab_ = Lab.private(parallel=True)
        try:
            lab_.start([name])
            lab_.wait_until_ready([name])
            lab_host(report, lab_.host(name), name, rounds)
        finally:
            lab_.down()


def lab_host(report: Report, host: LabHost, name: str, rounds: int) -> None:
    target = HostTarget(
        key="",
        transport="ssh",
        host="127.0.0.1",
        port=host.ssh_port,
        user="root",
        credential=SshKeyCredential(host.private_key.read_text()),
        host_key=scan_host_keys("127.0.0.1", host.ssh_port, timeout_s=60, rules=ANYWHERE)[0],
        rules=ANYWHERE,
    )
    last_good = LastGood()
    with connect(target) as standing, tempfile.TemporaryDirectory() as folder:
        floor = openssh(host.private_key, "root", host.ssh_port, Path(folder))
        collect(standing, SECTIONS, last_good=last_good)
        document = collect(standing, SECTIONS, last_good=last_good)
        sources(report, document)
        runs = Runs()
        large = host_document("large")
        subjects = {
            "floor": floor,
            "cold": lambda: cold(target, last_good, runs),
            "parse": lambda: build(large),
        }
        times = alternate(subjects, rounds)
    behind = f"cold: {ms(times['cold'])}; ssh true: {ms(times['floor'])}; {runs.said()}"
    found = ratio(times["cold"], times["floor"])
    if name == "rich":
        report.say(f"inventory_cold_lab_rich {found:.3f}, no limit  ({behind})")
        return
    if runs.missing:
        report.failed("inventory_cold_lab", f"missing: {', '.join(sorted(runs.missing))}")
    else:
        report.figure("inventory_cold_lab", found, LAB, behind)
    behind = f"parse: {ms(times['parse'])}; cold inventory: {ms(times['cold'])}"
    report.figure("parse_large_host", ratio(times["parse"], times["cold"]), PARSE, behind)


def cold(target: HostTarget, last_good: LastGood, runs: Runs) -> None:
    with connect(target) as connection:
        runs.add(collect(connection, SECTIONS, last_good=last_good))


class Runs:
    """What each timed inventory read: one that lacks a source, or was answered from an earlier one, shows."""

    def __init__(self) -> None:
        self._documents: list[HostDocument] = []

    def add(self, document: HostDocument) -> None:
        """Parse it, which is part of what is timed, and keep it to be looked at afterwards."""
        build(document)
        self._documents.append(document)

    @property
    def missing(self) -> set[str]:
        return {name for document in self._documents for name in incomplete(document)}

    def said(self) -> str:
        kept = sum(any(source.cached for source in doc.sources.values()) for doc in self._documents)
        return f"parts of libvirt's kept from earlier in {kept} of {len(self._documents)}"


def openssh(key: Path, user: str, port: int, folder: Path) -> Callable[[], object]:
    """``ssh host true`` as a script would call it, with the host key known."""
    known = folder / "bench_known_hosts"
    scanned = subprocess.run(
        ["ssh-keyscan", "-p", str(port), "127.0.0.1"], capture_output=True, check=True, timeout=60
    )
    known.write_bytes(scanned.stdout)
    command = [
        "ssh", "-F", "none", "-p", str(port), "-i", str(key), "-o", "IdentitiesOnly=yes",
        "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={known}", f"{user}@127.0.0.1", "true",
    ]  # fmt: skip
    return lambda: subprocess.run(command, check=True, capture_output=True, timeout=60)


def sources(report: Report, document: HostDocument) -> None:
    """Every source with its bytes and how it ended, and whether it was kept from an earlier answer."""
    for name, output in sorted(document.sources.items()):
        cached = " cached" if output.cached else ""
        report.say(f"  {name:34} {len(output.stdout):8} bytes  {output.status.value}{cached}")


def incomplete(document: HostDocument) -> list[str]:
    """Sources that must be there and are not. A machine without SMBIOS tables has no sysinfo to give."""
    wanted = {source.name for section in SECTIONS for source in section.sources}
    wanted |= {source.name for section in SECTIONS for source in section.libvirt}
    items_only = {"libvirt:domain", "libvirt:pool", "libvirt:network"}
    found = []
    if "/sys/class/dmi/id/" not in document.text("system") + document.text("machine-identity"):
        wanted.discard("libvirt:sysinfo")
    for name in sorted(wanted - OPTIONAL - items_only):
        outputs = [document.get(name), *(output for _item, output in document.items(name))]
        if not any(output.status in GOOD for output in outputs):
            found.append(f"{name} ({document.get(name).status.value})")
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
