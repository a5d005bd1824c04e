"""Users of a real host who have the printed sudoers file and no group, neither libvirt's nor journald's."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from nodes import access
from nodes.inventory.privileged import sudoers
from nodes.models import Credential, Node, OperationStatus
from tests.api.conftest import Api
from tests.engine.running import run_queued
from tests.lab.host import LabHost
from tests.lab.test_product import add, api, facts

__all__ = ["api"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.lab]
PASSWORD = "horse battery 'staple'"
LOG = "/var/log/libvirt/qemu/kept-by-root.log"
SECTIONS = ("summary", "pci", "usb", "net", "disks", "pools")


def make_user(host: LabHost, name: str, *, password: bool) -> None:
    """A user with the lab's key, and the printed file alone."""
    public = host.private_key.with_suffix(".pub").read_text().strip()
    script = f"""
set -eu
useradd --create-home --shell /bin/bash {name}
echo {shlex.quote(f"{name}:{PASSWORD}")} | chpasswd --crypt-method SHA256 --sha-rounds 1000
install -d -m 700 -o {name} -g {name} /home/{name}/.ssh
echo {shlex.quote(public)} >/home/{name}/.ssh/authorized_keys
chown {name}: /home/{name}/.ssh/authorized_keys
cat >/etc/sudoers.d/{name} <<'END'
{sudoers(name, password=password)}
END
chmod 440 /etc/sudoers.d/{name}
visudo -c -q
printf '2023-11-14 22:13:00.000+0000: starting up\\n' >{LOG}
chmod 600 {LOG}
"""
    host.run(["sh", "-c", script])


def end_user(host: LabHost, name: str) -> None:
    host.run(
        ["sh", "-c", f"rm -f /etc/sudoers.d/{name} {LOG}; pkill -KILL -u {name}; userdel -f -r {name}; :"]
    )


@pytest.fixture(params=[False, True], ids=["without a password", "with a password"])
def user(request: pytest.FixtureRequest, lab_rich: LabHost) -> Iterator[tuple[str, str | None]]:
    name = "asked" if request.param else "least"
    make_user(lab_rich, name, password=request.param)
    yield name, PASSWORD if request.param else None
    access.close_pool()
    end_user(lab_rich, name)


def test_the_printed_file_alone_is_enough_for_everything_that_is_read_and_asked(
    api: Api, lab_rich: LabHost, user: tuple[str, str | None], subtests: Any
) -> None:
    name, password = user
    credential: dict[str, str] = {"kind": "ssh_key", "private_key": lab_rich.private_key.read_text()}
    if password is not None:
        credential["sudo_password"] = password
    ended = add(api, lab_rich, user=name, credential=credential)
    assert ended.status == OperationStatus.SUCCEEDED, ended.error
    assert "Without" not in ended.steps.get(code="rights").message
    with subtests.test("the inventory is that of root, SMART and all"):
        problems = api("describe-node", {"node": "lab-rich"})[1]["problems"]
        assert not [problem for problem in problems if problem["code"] == "denied"], problems
        by_user = {slug: facts(api, slug, "lab-rich") for slug in SECTIONS}
        states = {disk["smart"]["state"] for disk in by_user["disks"]["disks"] if disk.get("smart")}
        assert states and "denied" not in states, states
    with subtests.test("the journal and the logs of VMs"):
        status, page = api("describe-node-logs", {"node": "lab-rich", "limit": 5})
        assert (status, len(page.get("entries", []))) == (200, 5), page
        body = {"node": "lab-rich", "services": ["vm-log"], "vm": "kept-by-root", "limit": 5}
        status, page = api("describe-node-logs", body)
        assert (status, [entry["message"] for entry in page["entries"]]) == (200, ["starting up"])
        assert "sudo" in api("list-log-sources", {"node": "lab-rich"})[1]["identifiers"]
    with subtests.test("a reboot and a shutdown are planned, and their commands may be sent"):
        for verb in ("reboot-node", "shutdown-node"):
            status, answer = api(verb, {"node": "lab-rich", "vm_policy": "stop"})
            assert status in (409, 428), answer
            assert not [
                one for one in answer["plan"]["blockers"] if one["code"] == "insufficient_rights_on_host"
            ], answer
    if password is not None:
        with subtests.test("a reboot is done"):
            body = {"node": "lab-rich", "vm_policy": "stop"}
            body["confirm_token"] = api("reboot-node", body)[1]["confirm_token"]
            boot = lab_rich.boot_id()
            assert api("reboot-node", body)[0] == 202
            (ended,) = run_queued()
            assert ended.status == OperationStatus.SUCCEEDED, ended.error
            assert lab_rich.wait_for_reboot(boot) != boot
    with subtests.test("nothing else was tried"):
        log = lab_rich.run("journalctl --no-pager _COMM=sudo -o cat").stdout
        mine = [line for line in log.splitlines() if name in line]
        assert any("COMMAND=" in line for line in mine)
        assert not [line for line in mine if "not allowed" in line or "incorrect password" in line]
        assert PASSWORD not in log
    assert (Credential.objects.get().sudo_secret is not None) is (password is not None)
    Node.objects.all().delete()
    run_queued()
