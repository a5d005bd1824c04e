"""What the lab promises of every host: identity, users, ends and returns."""

import os
import subprocess
from pathlib import Path

from tests.lab.host import LabHost


def test_hosts_share_no_identity(lab_rich: LabHost, lab_plain: LabHost) -> None:
    for path in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid", "/proc/sys/kernel/random/boot_id"):
        assert lab_rich.run(f"cat {path}").stdout != lab_plain.run(f"cat {path}").stdout
    assert set(lab_rich.fingerprints) == {"ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"}
    assert not set(lab_rich.fingerprints.values()) & set(lab_plain.fingerprints.values())


def test_hosts_reach_each_other_over_their_own_network(lab_rich: LabHost, lab_plain: LabHost) -> None:
    # The bridge of the rich host forwards only after its spanning tree has settled.
    lab_plain.run(f"ping -c 1 -w 30 {lab_rich.lan_address}", timeout_s=60)
    lab_rich.run(f"ping -c 1 -w 30 {lab_plain.lan_address}", timeout_s=60)


def test_users_have_the_rights_they_are_there_for(lab_plain: LabHost) -> None:
    def may(user: str, command: str) -> bool:
        return lab_plain.run(command, user=user, check=False).returncode == 0

    assert may("ops", "sudo -n id")
    assert not may("limited", "sudo -n id")
    assert not may("limited", "virsh -c qemu:///system list")
    assert may("virt", "virsh -c qemu:///system list")
    assert not may("virt", "sudo -n id")


def test_password_opens_the_user_that_has_no_key(lab_plain: LabHost, tmp_path: Path) -> None:
    ask = tmp_path / "ask"
    ask.write_text(f"#!/bin/sh\necho '{lab_plain.password}'\n")
    ask.chmod(0o700)
    command = lab_plain.ssh.command("pw")
    options = ["-oBatchMode=no", "-oPubkeyAuthentication=no", "-oNumberOfPasswordPrompts=1"]

    answer = subprocess.run(
        [command[0], *options, *command[1:], "virsh -c qemu:///system list && id -nG"],
        env={**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr
    assert {"sudo", "libvirt"} <= set(answer.stdout.split())


def test_tools_can_be_hidden_and_come_back(lab_plain: LabHost) -> None:
    with lab_plain.without_tools("smartctl", "lspci"):
        assert lab_plain.run("command -v smartctl || command -v lspci", check=False).stdout == ""
    assert lab_plain.run("command -v smartctl lspci").stdout.split() == [
        "/usr/sbin/smartctl",
        "/usr/bin/lspci",
    ]


def test_frozen_host_lets_a_connection_wait_without_an_answer(lab_plain: LabHost) -> None:
    lab_plain.freeze()
    assert not lab_plain.ssh.answers()
    lab_plain.thaw()
    lab_plain.wait_for_ssh(60)


def test_host_without_its_cable_does_not_answer(lab_plain: LabHost) -> None:
    lab_plain.cut_network()
    assert not lab_plain.ssh.answers()
    lab_plain.restore_network()
    lab_plain.wait_for_ssh(60)
