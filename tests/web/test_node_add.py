"""Adding a node: what is checked while typing, what is refused, what is never sent back."""

import re

import pytest
from django.urls import reverse

from nodes.models import Node, Operation, OwnKeyPair
from tests.engine.running import run_queued
from tests.factories import make_node, make_operation, make_steps, secret_given
from tests.hosts.test_host_key_scan import dropping_after
from tests.sshd import LoopbackSshd
from tests.web.conftest import HTMX

FINGERPRINT = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
REMOTE = {"name": "kvm-09", "uri": "qemu+ssh://root@192.0.2.1/system", "type": "compute", "labels": ""}
SECRET = "hunter2-and-more"


def post(client, to="node-add", /, **data):
    return client.post(reverse(to), data, headers=HTMX)


def slot(response, name):
    """What stands in the place of a field's error."""
    found = re.search(
        rf'<div id="error-{name}"[^>]*>(.*?)</div>\s*(?=<div id="error-|\Z)', response.content.decode(), re.S
    )
    assert found, name
    return re.sub(r"<[^>]+>", "", found[1]).strip()


def test_the_page_offers_nodeadmins_own_key(admin_page, read):
    page = read(admin_page.get(reverse("node-add")))
    key = OwnKeyPair.objects.get().public_key
    assert key.startswith("ssh-ed25519 ")
    assert key in page.text
    assert "authorized_keys" in page.text


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("qemu+ssh://root@kvm-01:2222/system", "port 2222, as root"),
        ("qemu:///system", "This machine"),
        ("test:///default", "test driver"),
        ("qemu+ssh://kvm-01/system?command=x", "command"),
        ("qemu+ssh://root:pw@kvm-01/system", "password does not belong"),
        ("xen:///", "not supported"),
    ],
)
def test_an_address_is_checked_while_it_is_typed(admin_page, uri, words):
    assert words in post(admin_page, "node-add-check", uri=uri).content.decode()


def test_a_name_is_checked_while_it_is_typed(admin_page):
    make_node("kvm-01")
    assert "taken" in post(admin_page, "node-add-check", name="kvm-01").content.decode()
    assert "lower-case" in post(admin_page, "node-add-check", name="KVM 01").content.decode()
    assert "field-error" not in post(admin_page, "node-add-check", name="kvm-02").content.decode()


def test_a_scan_of_a_closed_port_says_what_to_do(admin_page, settings):
    settings.NODEADMIN_HOST_TIMEOUT_S = 1.0
    answer = post(admin_page, "node-add-scan", uri="qemu+ssh://root@127.0.0.1:1/system")
    assert answer.status_code == 200
    assert "No SSH server answered" in answer.content.decode()
    assert "sshd" in answer.content.decode()


def test_a_scan_that_lost_key_types_says_which_and_why(admin_page, settings, tmp_path):
    settings.NODEADMIN_HOST_TIMEOUT_S = 1.0
    with LoopbackSshd(tmp_path) as sshd, dropping_after(1, sshd) as port:
        found = post(admin_page, "node-add-scan", uri=f"qemu+ssh://root@127.0.0.1:{port}/system")
    text = found.content.decode()
    shown = [kind for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa") if f'value="{kind} ' in text]
    assert len(shown) == 1
    assert text.count("The host did not answer for these key types") == 1
    assert text.count("closed the connection") == 1, "one reason is told once"
    assert "MaxStartups" in text


def test_the_type_of_the_chosen_key_is_handed_on_with_its_fingerprint(admin_page):
    for chosen, known in ((FINGERPRINT, ""), (f"ssh-rsa {FINGERPRINT}", "ssh-rsa"), (f"x {FINGERPRINT}", "")):
        Operation.objects.all().delete()
        answer = post(admin_page, **REMOTE, kind="nodeadmin_key", fingerprint=chosen)
        assert answer.status_code == 200, answer.content
        params = Operation.objects.get().params
        assert (params["fingerprint"], params["key_type"]) == (FINGERPRINT, known)


def test_a_scan_needs_an_address_over_ssh(admin_page):
    assert "over SSH" in post(admin_page, "node-add-scan", uri="qemu:///system").content.decode()


def test_without_a_confirmed_key_nothing_is_queued(admin_page):
    answer = post(admin_page, **REMOTE, kind="nodeadmin_key")
    assert answer.status_code == 422
    assert "Scan the host" in slot(answer, "fingerprint")
    assert slot(answer, "name") == ""
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": ""}, "name"),
        ({"name": "Not A Name"}, "name"),
        ({"name": "kvm-01"}, "name"),
        ({"uri": ""}, "uri"),
        ({"uri": "qemu+ssh://h/system?no_verify=1"}, "uri"),
        ({"type": "Not A Type"}, "type"),
        ({"labels": "=a1"}, "labels"),
        ({"fingerprint": "abc"}, "fingerprint"),
        ({"kind": "password", "password": ""}, "password"),
        ({"kind": "ssh_key", "private_key": "  "}, "private_key"),
        ({"kind": "nodeadmin_key", "user": "somebody"}, "user"),
    ],
)
def test_what_is_wrong_is_shown_at_its_field(admin_page, change, place):
    make_node("kvm-01")
    data = {**REMOTE, "fingerprint": FINGERPRINT, "kind": "nodeadmin_key"} | change
    answer = post(admin_page, **data)
    assert answer.status_code == 422
    assert slot(answer, place)
    assert not Operation.objects.exists()


@pytest.mark.parametrize("wrong", [{}, {"name": "Not A Name"}])
def test_a_secret_is_never_sent_back(admin_page, wrong):
    answer = post(admin_page, **REMOTE | wrong, fingerprint=FINGERPRINT, kind="password", password=SECRET)
    assert SECRET not in answer.content.decode()
    for operation in Operation.objects.all():
        assert SECRET not in str(operation.params)
        page = admin_page.get(reverse("operation-detail", args=[operation.pk])).content.decode()
        assert SECRET not in page


def test_a_key_pasted_with_the_line_ends_of_a_browser_is_kept_with_those_of_a_key_file(admin_page):
    post(
        admin_page,
        **REMOTE,
        fingerprint=FINGERPRINT,
        kind="ssh_key",
        private_key="-----BEGIN\r\nabc\r\n-----END",
    )
    assert secret_given(Operation.objects.get())["private_key"] == "-----BEGIN\nabc\n-----END\n"


def test_the_whole_way_to_a_node(admin_page):
    """libvirt's test driver stands for the host; whatever else was chosen counts for nothing with it."""
    answer = post(
        admin_page, name="test-one", uri="test:///default", type="hybrid", labels="rack=a1", kind="ssh_key"
    )
    assert answer.status_code == 200
    operation = Operation.objects.get()
    poll = reverse("node-add-progress", args=[operation.pk])
    assert poll in answer.content.decode()
    assert "every 1s" in admin_page.get(poll, headers=HTMX).content.decode()
    run_queued()
    ended = admin_page.get(poll, headers=HTMX).content.decode()
    assert "every 1s" not in ended
    assert "test-one is a node now." in ended
    node = Node.objects.get(name="test-one")
    assert (node.node_type, node.labels) == ("hybrid", {"rack": "a1"})
    assert admin_page.get(reverse("node-detail", args=["test-one"])).status_code == 200


def test_a_failure_shows_the_step_and_the_remedy(admin_page, administrator, read):
    error = {
        "code": "authentication_failed",
        "detail": "The host refused the key.",
        "remedy": "Add the key.",
    }
    operation = make_operation(
        None, "add-node", "failed", node_name="kvm-09", error=error, requested_by=administrator
    )
    make_steps(
        operation,
        ("Reach the host", "succeeded", ""),
        ("Authenticate", "failed", "No."),
        ("Join", "pending", ""),
    )
    page = read(admin_page.get(reverse("node-add-progress", args=[operation.pk]), headers=HTMX))
    for words in ("The host refused the key.", "Add the key.", "Nothing was registered", "Authenticate"):
        assert words in page.text
