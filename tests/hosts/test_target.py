"""Targets and keys: fingerprints as OpenSSH's, and no secret in any representation."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.hosts.target import HostKey, HostTarget, PasswordCredential, SshKeyCredential
from tests.network import ANYWHERE
from tests.sshd import make_key, public_of


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_fingerprints_are_those_of_ssh_keygen(kind: str, tmp_path: Path) -> None:
    path = make_key(tmp_path / "key", kind)
    printed = subprocess.run(
        ["ssh-keygen", "-l", "-f", path.with_suffix(".pub")], check=True, capture_output=True, text=True
    ).stdout
    key = HostKey.parse(public_of(path))
    assert key.fingerprint == printed.split()[1]
    assert HostKey.parse(key.to_text()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!",
        "ssh-ed25519 AAAA",
        "ssh-dss AAAAB3NzaC1kc3M=",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGJzZGtqZmhza2RqZmhza2RqZmhza2RqZmhza2Rq",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
    ],
)
def test_what_is_no_host_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host key"):
        HostKey.parse(text)


def test_secrets_are_in_no_representation() -> None:
    password = HostTarget("n", "ssh", "h", 22, "root", PasswordCredential("hunter2"), rules=ANYWHERE)
    key = replace(password, credential=SshKeyCredential("-----BEGIN private", "open sesame"))
    for target in (password, key):
        for shown in (repr(target), str(target), f"{target.credential}"):
            assert not any(secret in shown for secret in ("hunter2", "BEGIN", "sesame"))


def test_the_digest_changes_with_whatever_lets_one_in() -> None:
    base = HostTarget(
        "n", "ssh", "h", 22, "root", PasswordCredential("a"), HostKey("ssh-ed25519", b"x"), rules=ANYWHERE
    )
    others = [
        replace(base, credential=PasswordCredential("b")),
        replace(base, credential=SshKeyCredential("a")),
        replace(base, credential=SshKeyCredential("a", "")),
        replace(base, credential=None),
        replace(base, host_key=HostKey("ssh-ed25519", b"y")),
        replace(base, user="other"),
        replace(base, port=23),
        replace(base, key="m"),
    ]
    digests = [target.digest() for target in (base, *others)]
    assert len(set(digests)) == len(digests)
    assert base.digest() == replace(base).digest()
    assert not any("hunter" in digest for digest in digests)


@pytest.mark.parametrize(
    ("host", "port", "shown"),
    [("kvm1", 22, "kvm1"), ("kvm1", 2222, "kvm1:2222"), ("::1", 22, "[::1]"), ("::1", 9, "[::1]:9")],
)
def test_an_address_is_shown_as_people_write_it(host: str, port: int, shown: str) -> None:
    assert HostTarget("", "ssh", host, port, rules=ANYWHERE).address == shown
