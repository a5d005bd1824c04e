"""Live migrations between two light hosts, and the ways in which one breaks off: one VM is left after it."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lxml import etree

from nodes.errors import (
    HostError,
    InvalidInput,
    LibvirtUnavailable,
    MigrationAborted,
    MigrationFailed,
    MigrationTimeout,
    VmStateUnknown,
)
from nodes.hosts import migration
from nodes.hosts.connection import HostConnection, connect
from nodes.hosts.domains import find_domain
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.migration import Manner, Outcome, Progress, migrate, reachable, settle
from tests.hosts.migration_driver import Order, driven
from tests.lighthosts import (
    AVAILABLE,
    LightHost,
    TinyVm,
    assert_exactly_once,
    comes_true,
    guest_kernel,
    light_pair,
    where,
)

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")

Pair = tuple[LightHost, ...]
HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("migration")


@pytest.fixture(scope="module")
def hosts(folder: Path) -> Iterator[Pair]:
    with light_pair(folder) as pair:
        yield pair


@pytest.fixture
def pair(hosts: Pair) -> Iterator[Pair]:
    yield hosts
    for host in hosts:
        host.thaw_libvirtd()
        host.remove_all_vms()


@pytest.fixture
def restless(folder: Path) -> TinyVm:
    """A VM that no migration of a few MiB a second ever catches up with."""
    return TinyVm("restless", guest_kernel("restless", folder))


@contextmanager
def both(pair: Pair) -> Iterator[tuple[Hypervisor, Hypervisor]]:
    with connect(pair[0].sshd.target()) as one, connect(pair[1].sshd.target()) as two:
        yield one.hypervisor(), two.hypervisor()


def settled(pair: Pair, vm: TinyVm, **options: float) -> Outcome:
    """What settle says over connections that are new, as after a restart of this server."""
    with both(pair) as (source, target):
        return settle(source, target, vm.uuid, **options)


def test_a_vm_moves_there_and_back_with_its_definition(pair: Pair) -> None:
    one, two = pair
    vm = TinyVm("traveller")
    one.start_vm(vm)
    one.virsh("autostart", vm.name)
    seen: list[Progress] = []
    with both(pair) as (source, target):
        migrate(source, target, vm.uuid, address=HERE, timeout_s=60, on_progress=seen.append)
        assert_exactly_once(pair, vm, on=two)
        assert seen[-1].fraction == 1.0
        facts = find_domain(target, vm.uuid)
        assert facts is not None
        assert (facts.persistent, facts.state) == (True, "running")
        assert two.virsh("list", "--name", "--autostart").split() == [vm.name]
        assert settle(source, target, vm.uuid) is Outcome.MOVED
        migrate(target, source, vm.uuid, address=HERE, timeout_s=60)
        assert_exactly_once(pair, vm, on=one)
        assert settle(source, target, vm.uuid) is Outcome.STAYED


def test_a_transient_vm_stays_transient_and_a_paused_one_paused(pair: Pair) -> None:
    transient, paused = TinyVm("transient"), TinyVm("paused")
    pair[0].start_vm(transient, transient=True)
    pair[0].start_vm(paused)
    pair[0].virsh("suspend", paused.name)
    with both(pair) as (source, target):
        for vm in (transient, paused):
            migrate(source, target, vm.uuid, address=HERE, timeout_s=60)
            assert settle(source, target, vm.uuid) is Outcome.MOVED
        facts = find_domain(target, transient.uuid)
        assert facts is not None
        assert facts.persistent is False
    assert_exactly_once(pair, paused, on=pair[1], state="paused")


def test_one_that_does_not_converge_is_aborted_at_its_deadline_and_runs_on(
    pair: Pair, restless: TinyVm
) -> None:
    pair[0].start_vm(restless)
    assert comes_true(lambda: _writes(pair[0], restless))
    seen: list[Progress] = []
    with both(pair) as (source, target):
        started = time.monotonic()
        with pytest.raises(MigrationTimeout):
            migrate(
                source,
                target,
                restless.uuid,
                address=HERE,
                timeout_s=7,
                manner=Manner(bandwidth_mib_s=4),
                on_progress=seen.append,
            )
        assert 7 <= time.monotonic() - started < 14
        assert settle(source, target, restless.uuid) is Outcome.STAYED
    assert_exactly_once(pair, restless, on=pair[0])
    fractions = [progress.fraction for progress in seen if progress.fraction is not None]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] < fractions[-1] < 1
    remaining = [progress.remaining_bytes for progress in seen if progress.remaining_bytes is not None]
    assert remaining != sorted(remaining, reverse=True), "memory that was written to goes again"
    assert seen[-1].speed_bytes_s == pytest.approx(4 << 20, rel=0.5)


def test_a_cancel_aborts_and_a_second_try_succeeds(pair: Pair, restless: TinyVm) -> None:
    pair[0].start_vm(restless)
    with both(pair) as (source, target):
        seen: list[Progress] = []
        with pytest.raises(MigrationAborted):
            migrate(
                source,
                target,
                restless.uuid,
                address=HERE,
                timeout_s=60,
                manner=Manner(bandwidth_mib_s=2),
                on_progress=seen.append,
                should_stop=lambda: any(progress.fraction for progress in seen),
            )
        assert settle(source, target, restless.uuid) is Outcome.STAYED
        assert_exactly_once(pair, restless, on=pair[0])
        migrate(source, target, restless.uuid, address=HERE, timeout_s=60)
    assert_exactly_once(pair, restless, on=pair[1])


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 0.4])
def test_a_cancel_that_meets_the_end_leaves_one_vm_wherever(pair: Pair, delay_s: float) -> None:
    vm = TinyVm("racer")
    pair[0].start_vm(vm)
    end = time.monotonic() + delay_s
    with both(pair) as (source, target):
        try:
            migrate(
                source,
                target,
                vm.uuid,
                address=HERE,
                timeout_s=60,
                should_stop=lambda: time.monotonic() >= end,
            )
        except MigrationAborted:
            expected = Outcome.STAYED
        else:
            expected = Outcome.MOVED
        assert settle(source, target, vm.uuid) is expected
    assert_exactly_once(pair, vm, on=pair[0 if expected is Outcome.STAYED else 1])


def test_a_callback_that_fails_leaves_no_migration_behind(pair: Pair, restless: TinyVm) -> None:
    pair[0].start_vm(restless)

    def fail(_: Progress) -> None:
        raise LookupError("the row is gone")

    with both(pair) as (source, target):
        with pytest.raises(LookupError):
            migrate(
                source,
                target,
                restless.uuid,
                address=HERE,
                timeout_s=60,
                manner=Manner(bandwidth_mib_s=2),
                on_progress=fail,
            )
        facts = find_domain(source, restless.uuid)
        assert facts is not None
        assert facts.job is None
    assert_exactly_once(pair, restless, on=pair[0])


def test_libvirts_refusal_is_told_in_its_words(pair: Pair) -> None:
    one, two = pair
    off, known = TinyVm("off"), TinyVm("known")
    one.define_vm(off)
    one.start_vm(known)
    two.start_vm(TinyVm("known", uuid=known.uuid))
    with both(pair) as (source, target):
        with pytest.raises(MigrationFailed, match="not running"):
            migrate(source, target, off.uuid, address=HERE, timeout_s=20)
        with pytest.raises(MigrationFailed, match="already"):
            migrate(source, target, known.uuid, address=HERE, timeout_s=20)
        with pytest.raises(InvalidInput):
            migrate(source, target, known.uuid, address="h/../x?y", timeout_s=20)
    assert where(pair, known) == {"light1": "running", "light2": "running"}


@pytest.mark.parametrize("victim", [0, 1], ids=["source", "target"])
def test_a_libvirtd_that_is_killed_in_the_middle_ends_the_call_and_loses_no_vm(
    pair: Pair, restless: TinyVm, victim: int
) -> None:
    pair[0].start_vm(restless)
    with both(pair) as (source, target):
        with _happening(lambda: pair[victim].stop_libvirtd(keep_socket=True), 1.0):
            started = time.monotonic()
            with pytest.raises(LibvirtUnavailable):
                migrate(
                    source,
                    target,
                    restless.uuid,
                    address=HERE,
                    timeout_s=60,
                    manner=Manner(bandwidth_mib_s=2),
                )
            assert time.monotonic() - started < 15
        with pytest.raises(VmStateUnknown):
            settle(source, target, restless.uuid)
    pair[victim].start_libvirtd()
    assert settled(pair, restless) is Outcome.STAYED
    assert_exactly_once(pair, restless, on=pair[0])


def test_a_lost_line_in_the_middle_ends_the_call_and_loses_no_vm(pair: Pair, restless: TinyVm) -> None:
    pair[0].start_vm(restless)
    for victims in ((0,), (1,), (0, 1)):

        def drop(victims: tuple[int, ...] = victims) -> None:
            for victim in victims:
                pair[victim].sshd.drop_connections()

        with both(pair) as (source, target), _happening(drop, 0.8):
            started = time.monotonic()
            with pytest.raises(HostError):
                migrate(
                    source,
                    target,
                    restless.uuid,
                    address=HERE,
                    timeout_s=60,
                    manner=Manner(bandwidth_mib_s=2),
                )
            assert time.monotonic() - started < 15
        assert settled(pair, restless) is Outcome.STAYED
        assert_exactly_once(pair, restless, on=pair[0])


def test_a_target_lost_while_it_may_have_started_the_vm_does_not_set_the_source_going(
    pair: Pair, restless: TinyVm
) -> None:
    """libvirt takes a lost answer to "finish" for a failure, and would have both sides run the VM."""
    (one, two), vm = pair, restless
    one.start_vm(vm)
    with connect(one.sshd.target()) as first, connect(two.sshd.target()) as second:
        call = _Background(lambda: _slow_migration(first, second, vm))
        _freeze_and_let_it_end(pair, first, vm)
        assert comes_true(lambda: one.vm_state(vm) == "paused", 20)
        time.sleep(0.5)
        two.sshd.drop_connections()
        error = call.ended(15)
        assert isinstance(error, LibvirtUnavailable)
        assert one.vm_state(vm) == "paused"
        two.thaw_libvirtd()
    outcome = settled(pair, vm)
    assert_exactly_once(pair, vm, on=two if outcome is Outcome.MOVED else one)


def test_a_target_that_never_finishes_is_given_up_and_its_answer_decides_later(
    pair: Pair, restless: TinyVm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "FINISH_S", 2.0)
    monkeypatch.setattr(migration, "CUT_S", 1.0)
    (one, two), vm = pair, restless
    one.start_vm(vm)
    with connect(one.sshd.target()) as first, connect(two.sshd.target()) as second:
        call = _Background(lambda: _slow_migration(first, second, vm))
        _freeze_and_let_it_end(pair, first, vm)
        error = call.ended(30)
        assert isinstance(error, LibvirtUnavailable)
        assert one.vm_state(vm) == "paused", "it may run on the target any moment"
        two.thaw_libvirtd()
    outcome = settled(pair, vm)
    assert_exactly_once(pair, vm, on=two if outcome is Outcome.MOVED else one)


@pytest.mark.parametrize("delay_s", [0.05, 0.15, 0.25, 0.35, 0.45, 0.6])
def test_a_process_killed_at_any_moment_leaves_what_settle_puts_right(pair: Pair, delay_s: float) -> None:
    vm = TinyVm("orphan")
    pair[0].start_vm(vm)
    order = Order(pair[0].sshd.target(), pair[1].sshd.target(), vm.uuid)
    with driven(order) as process:
        time.sleep(delay_s)
        process.kill()
        process.wait(5)
    outcome = settled(pair, vm)
    assert_exactly_once(pair, vm, on=pair[1 if outcome is Outcome.MOVED else 0])
    assert settled(pair, vm) is outcome


def test_a_process_killed_while_the_memory_goes_leaves_the_vm_where_it_was(
    pair: Pair, restless: TinyVm
) -> None:
    pair[0].start_vm(restless)
    order = Order(pair[0].sshd.target(), pair[1].sshd.target(), restless.uuid, bandwidth_mib_s=2)
    with driven(order) as process:
        assert comes_true(lambda: pair[1].vm_processes(restless) != [])
        time.sleep(0.5)
        process.kill()
        process.wait(5)
    assert settled(pair, restless) is Outcome.STAYED
    assert_exactly_once(pair, restless, on=pair[0])


def test_whether_a_host_reaches_another_is_tried_without_a_listener(pair: Pair) -> None:
    with connect(pair[0].sshd.target()) as connection:
        assert reachable(connection.shell, HERE) == (True, "")
        verdict, why = reachable(connection.shell, "no-such-host.invalid")
        assert verdict is False
        assert "no-such-host.invalid" in why
        for wrong in ("a b", "-x", "h;touch /tmp/never", ""):
            with pytest.raises(InvalidInput):
                reachable(connection.shell, wrong)


# -- parts ----------------------------------------------------------------------------------------


class _Background:
    """Something that runs beside the test, and the error it ends with."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._error: HostError | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HostError as error:
            self._error = error

    def ended(self, within_s: float) -> HostError | None:
        self._thread.join(within_s)
        assert not self._thread.is_alive()
        return self._error


@contextmanager
def _happening(what: Callable[[], None], after_s: float) -> Iterator[None]:
    timer = threading.Timer(after_s, what)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def _freeze_and_let_it_end(pair: Pair, first: HostConnection, vm: TinyVm) -> None:
    """The memory goes from QEMU to QEMU; what the target's libvirt is asked then stays unanswered."""
    assert comes_true(lambda: pair[1].vm_processes(vm) != [] and _moves(first, vm))
    pair[1].freeze_libvirtd()
    pair[0].virsh("migrate-setspeed", vm.name, "1000")


def _moves(connection: HostConnection, vm: TinyVm) -> bool:
    stats = connection.hypervisor().run(
        lambda libvirt: libvirt.lookupByUUIDString(vm.uuid).jobStats(), what="Following a migration"
    )
    return stats.get("data_processed", 0) > 0


def _writes(host: LightHost, vm: TinyVm) -> bool:
    """Whether the guest has got to changing its memory: it starts at 4 MiB."""
    return "0x00000000" not in host.virsh("qemu-monitor-command", vm.name, "--hmp", "xp /1wx 0x400000")


def _slow_migration(first: HostConnection, second: HostConnection, vm: TinyVm) -> None:
    source, target = first.hypervisor(), second.hypervisor()
    migrate(source, target, vm.uuid, address=HERE, timeout_s=60, manner=Manner(bandwidth_mib_s=1))


# -- disks that the target calls otherwise ---------------------------------------------------------


@pytest.fixture
def device(folder: Path) -> Iterator[Path]:
    """A block device, and another path to it as a target may have one."""
    image = folder / "device.img"
    image.write_bytes(b"\0" * (1 << 20))
    made = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip("needs loop devices")
    device = Path(made.stdout.strip())
    mode = device.stat().st_mode
    device.chmod(0o666)
    yield device
    device.chmod(mode)
    subprocess.run(["losetup", "-d", device], check=True)


def source_paths(host: LightHost, vm: TinyVm, *options: str) -> list[str | None]:
    root = etree.fromstring(host.virsh("dumpxml", *options, vm.uuid))
    return [element.get("dev") for element in root.iterfind("devices/disk/source")]


def test_a_disk_is_opened_by_the_path_that_the_target_has_for_it(pair, folder, device):
    there = folder / "wwn-0x6001405"
    there.unlink(missing_ok=True)
    there.symlink_to(device)
    disk = f"<disk type='block' device='disk'><source dev='{device}'/><target dev='vda' bus='virtio'/></disk>"
    vm = TinyVm("with-disk", devices=disk)
    pair[0].define_vm(vm)
    pair[0].virsh("start", vm.uuid)
    with both(pair) as (one, two):
        migrate(
            one, two, vm.uuid, address=HERE, timeout_s=60, manner=Manner(disk_paths={str(device): str(there)})
        )
    assert_exactly_once(pair, vm, on=pair[1])
    assert source_paths(pair[1], vm) == source_paths(pair[1], vm, "--inactive") == [str(there)]


def test_a_disk_that_is_gone_since_the_plan_leaves_the_vm_where_it_is(pair):
    vm = TinyVm("diskless")
    pair[0].start_vm(vm)
    with both(pair) as (one, two), pytest.raises(MigrationFailed, match="no disk /dev/sdb any more"):
        migrate(
            one, two, vm.uuid, address=HERE, timeout_s=60, manner=Manner(disk_paths={"/dev/sdb": "/dev/sdc"})
        )
    assert_exactly_once(pair, vm, on=pair[0])
