"""How migrations go: encrypted or not at all, and told apart from those that never end. Real QEMU on two
light hosts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodes.errors import MigrationAborted, MigrationNotConverging, MigrationTlsFailed
from nodes.hosts.connection import connect
from nodes.hosts.hypervisor import Hypervisor
from nodes.hosts.migration import Manner, Outcome, Patience, Progress, migrate, settle
from tests.lighthosts import (
    AVAILABLE,
    LightHost,
    TinyVm,
    assert_exactly_once,
    comes_true,
    guest_kernel,
    light_pair,
)
from tests.qemu_certificates import Authority

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="needs root, libvirtd and unshare")

Pair = tuple[LightHost, ...]
HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manner")


@pytest.fixture(scope="module")
def hosts(folder: Path) -> Iterator[Pair]:
    with light_pair(folder, migration_tls=True) as pair:
        yield pair


@pytest.fixture
def pair(hosts: Pair) -> Iterator[Pair]:
    authority = Authority()
    for host in hosts:
        authority.equip(host.tls_folder, host.name, names=[f"{host.name}.example"])
    yield hosts
    for host in hosts:
        host.remove_all_vms()


@contextmanager
def both(pair: Pair) -> Iterator[tuple[Hypervisor, Hypervisor]]:
    with connect(pair[0].sshd.target()) as one, connect(pair[1].sshd.target()) as two:
        yield one.hypervisor(), two.hypervisor()


def test_an_encrypted_migration_moves_the_vm_by_tls(pair: Pair, folder: Path) -> None:
    one, two = pair
    vm = TinyVm("secret", guest_kernel("restless", folder))
    one.start_vm(vm)
    assert comes_true(lambda: _starts_writing(one, vm))
    seen: list[str] = []

    def look(_progress: Progress) -> None:
        if not seen:
            told = one.virsh("qemu-monitor-command", vm.name, "--hmp", "info migrate_parameters")
            if "tls-creds: 'objlibvirt_migrate_tls0'" in told:
                seen.append(told)
                one.virsh("migrate-setspeed", vm.name, "1000")

    with both(pair) as (source, target):
        migrate(
            source,
            target,
            vm.uuid,
            address=HERE,
            timeout_s=60,
            # So slow that it is still under way when QEMU is asked.
            manner=Manner(encrypted=True, verified_name="light2.example", bandwidth_mib_s=4),
            on_progress=look,
        )
    assert_exactly_once(pair, vm, on=two)
    assert "tls-hostname: 'light2.example'" in seen[0]


def test_an_address_in_the_certificate_is_verified_as_it_is(pair: Pair) -> None:
    one, two = pair
    authority = Authority()
    for host in pair:
        authority.equip(host.tls_folder, host.name, names=[HERE])
    vm = TinyVm("by-address")
    one.start_vm(vm)
    with both(pair) as (source, target):
        migrate(source, target, vm.uuid, address=HERE, timeout_s=60, manner=Manner(encrypted=True))
    assert_exactly_once(pair, vm, on=two)


@pytest.mark.parametrize("fault", ["another name", "no key"])
def test_a_handshake_that_fails_leaves_the_vm_where_it_was_and_sends_nothing_plain(
    pair: Pair, fault: str
) -> None:
    one, two = pair
    vm = TinyVm("stays")
    one.start_vm(vm)
    name = "light2.example"
    if fault == "another name":
        name = "light3.example"
    else:
        (two.tls_folder / "server-key.pem").unlink()
    with both(pair) as (source, target):
        with pytest.raises(MigrationTlsFailed, match="nothing was sent without encryption") as caught:
            migrate(
                source,
                target,
                vm.uuid,
                address=HERE,
                timeout_s=60,
                manner=Manner(encrypted=True, verified_name=name),
            )
        assert caught.value.code == "migration_tls_failed"
        assert settle(source, target, vm.uuid) is Outcome.STAYED
    assert_exactly_once(pair, vm, on=one)


def test_one_that_does_not_converge_is_told_with_its_dirty_rate_and_stays(pair: Pair, folder: Path) -> None:
    one, _two = pair
    vm = TinyVm("restless", guest_kernel("restless", folder))
    one.start_vm(vm)
    assert comes_true(lambda: _starts_writing(one, vm))
    seen: list[Progress] = []
    with both(pair) as (source, target):
        started = time.monotonic()
        with pytest.raises(MigrationNotConverging) as caught:
            migrate(
                source,
                target,
                vm.uuid,
                address=HERE,
                timeout_s=60,
                manner=Manner(bandwidth_mib_s=24),
                patience=Patience(seconds=2.0, passes=2),
                on_progress=seen.append,
            )
        assert time.monotonic() - started < 30
        assert settle(source, target, vm.uuid) is Outcome.STAYED
    assert_exactly_once(pair, vm, on=one)
    assert any(progress.dirty_bytes_s for progress in seen)
    assert not any(progress.throttle_percent for progress in seen), "nobody has asked for that"
    assert caught.value.code == "migration_not_converging"
    assert "The VM changes " in caught.value.message
    assert "MiB/s of its memory" in caught.value.message
    assert "auto_converge" in caught.value.remedy


def test_auto_converge_slows_a_restless_guest_down(pair: Pair, folder: Path) -> None:
    one, _two = pair
    vm = TinyVm("restless", guest_kernel("restless", folder))
    one.start_vm(vm)
    assert comes_true(lambda: _starts_writing(one, vm))
    seen: list[Progress] = []
    with both(pair) as (source, target), pytest.raises(MigrationAborted):
        migrate(
            source,
            target,
            vm.uuid,
            address=HERE,
            timeout_s=60,
            manner=Manner(auto_converge=True, bandwidth_mib_s=24),
            on_progress=seen.append,
            should_stop=lambda: bool(seen and seen[-1].throttle_percent),
        )
    assert_exactly_once(pair, vm, on=one)
    assert (seen[-1].throttle_percent or 0) >= 20


def _starts_writing(host: LightHost, vm: TinyVm) -> bool:
    """Whether the guest has got to changing its memory: it starts at 4 MiB."""
    return "0x00000000" not in host.virsh("qemu-monitor-command", vm.name, "--hmp", "xp /1wx 0x400000")
