"""Addresses of nodes: what is understood, and what is refused with which reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.errors import InvalidUri
from nodes.hosts.uri import NodeUri, parse_uri


@pytest.mark.parametrize(
    ("text", "expected", "canonical"),
    [
        ("qemu:///system", NodeUri("local"), "qemu:///system"),
        ("qemu+ssh://kvm1/system", NodeUri("ssh", "kvm1"), "qemu+ssh://kvm1/system"),
        (" qemu+ssh://kvm1:22/system\n", NodeUri("ssh", "kvm1"), "qemu+ssh://kvm1/system"),
        (
            "QEMU+SSH://root@KVM1.Example.org.:2222/system",
            NodeUri("ssh", "kvm1.example.org", 2222, "root"),
            "qemu+ssh://root@kvm1.example.org:2222/system",
        ),
        (
            "qemu+ssh://[2001:DB8::0:1]:2222/system",
            NodeUri("ssh", "2001:db8::1", 2222),
            "qemu+ssh://[2001:db8::1]:2222/system",
        ),
        ("qemu+ssh://[::1]/system", NodeUri("ssh", "::1"), "qemu+ssh://[::1]/system"),
        (
            "qemu+ssh://[fe80::1%25eth0]/system",
            NodeUri("ssh", "fe80::1%eth0"),
            "qemu+ssh://[fe80::1%eth0]/system",
        ),
        ("qemu+ssh://192.0.2.7/system", NodeUri("ssh", "192.0.2.7"), "qemu+ssh://192.0.2.7/system"),
        (
            "qemu+ssh://bücher.example/system",
            NodeUri("ssh", "xn--bcher-kva.example"),
            "qemu+ssh://xn--bcher-kva.example/system",
        ),
    ],
)
def test_supported_addresses_have_one_canonical_form(text: str, expected: NodeUri, canonical: str) -> None:
    assert parse_uri(text) == expected
    assert parse_uri(text).canonical() == canonical
    assert parse_uri(canonical) == expected


@pytest.mark.parametrize(
    "parameter",
    [
        "command",
        "no_verify",
        "netcat",
        "keyfile",
        "socket",
        "proxy",
        "known_hosts",
        "mode",
        "auth",
        "sshauth",
    ],
)
def test_every_parameter_is_refused_by_its_name(parameter: str) -> None:
    for text in (f"qemu+ssh://h/system?{parameter}=1", f"qemu:///system?a=b&{parameter}=/bin/sh"):
        with pytest.raises(InvalidUri, match=f"“{parameter}”") as caught:
            parse_uri(text)
        assert caught.value.code == "invalid_uri"
        assert "qemu+ssh://" in caught.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kvm1",
        "ssh://kvm1",
        "qemu+tcp://kvm1/system",
        "qemu+ssh://kvm1/session",
        "qemu+ssh://kvm1",
        "qemu+ssh:///system",
        "qemu:///session",
        "qemu://kvm1/system",
        "xen:///system",
        "esx://h/?no_verify=1",
        "qemu+ssh://kvm1/system#x",
        "qemu+ssh://kvm1/system?",
        "qemu+ssh://root:secret@kvm1/system",
        "qemu+ssh://root:@kvm1/system",
        "qemu+ssh://@kvm1/system",
        "qemu+ssh://-oProxyCommand=x@kvm1/system",
        "qemu+ssh://-oProxyCommand=x/system",
        "qemu+ssh://a@b@kvm1/system",
        "qemu+ssh://root%0a@kvm1/system",
        "qemu+ssh://kvm1:0/system",
        "qemu+ssh://kvm1:65536/system",
        "qemu+ssh://kvm1:/system",
        "qemu+ssh://kvm1:ssh/system",
        "qemu+ssh://kvm 1/system",
        "qemu+ssh://kvm1\n/system",
        "qemu+ssh://kvm1\x7f/system",
        "qemu+ssh://127.1/system",
        "qemu+ssh://0x7f000001/system",
        "qemu+ssh://300.1.1.1/system",
        "qemu+ssh://[::1/system",
        "qemu+ssh://[::zz]/system",
        "qemu+ssh://[::1%25e th]/system",
        "qemu+ssh://a..b/system",
        f"qemu+ssh://{'a' * 64}/system",
        f"qemu+ssh://{'a.' * 300}a/system",
        "test:///default",
    ],
)
def test_everything_else_is_refused_with_what_is_supported(text: str) -> None:
    with pytest.raises(InvalidUri) as caught:
        parse_uri(text)
    assert "qemu:///system" in caught.value.detail()
    assert caught.value.field == "uri"


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidUri) as caught:
        parse_uri("qemu+ssh://root:hunter2@kvm1/system")
    assert "hunter2" not in caught.value.detail()


def test_the_test_driver_is_let_in_only_where_allowed() -> None:
    assert parse_uri("test:///default", allow_test=True) == NodeUri("test", path="/default")
    assert parse_uri("test:///srv/a.xml", allow_test=True).libvirt_uri == "test:///srv/a.xml"
    for text in ("test:///../etc/passwd", "test://h/default", "test:///a?b=c"):
        with pytest.raises(InvalidUri):
            parse_uri(text, allow_test=True)


@given(st.text(max_size=60), st.sampled_from(["", "qemu+ssh://", "qemu+ssh://root@", "qemu://", "test://"]))
def test_any_text_is_either_understood_or_refused(text: str, prefix: str) -> None:
    try:
        uri = parse_uri(f"{prefix}{text}/system", allow_test=True)
    except InvalidUri:
        return
    assert parse_uri(uri.canonical(), allow_test=True) == uri
    assert not uri.host.startswith("-")
    assert not uri.user.startswith("-")
    assert uri.canonical().isprintable()
