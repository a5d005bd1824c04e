"""Confirmations: whose, for what, how long and how often."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from django.core import signing
from django.db import transaction

from nodes.engine import confirm
from nodes.errors import ConfirmationInvalid
from nodes.hosts.power_preflight import Inhibitor
from nodes.models import Node, UsedConfirmation, User
from nodes.operations.plans import Action, Plan, Reason, VmDecision, drift
from tests.factories import make_node, make_user

pytestmark = pytest.mark.django_db

OPTIONS = {"vm_policy": "migrate", "vm_overrides": {}, "stop_timeout_s": 120.0}


@pytest.fixture
def user() -> User:
    return make_user()


@pytest.fixture
def node() -> Node:
    return make_node()


def plan_of(node: Node, *rows: VmDecision) -> Plan:
    return Plan("reboot-node", node.name, str(node.uuid), OPTIONS, rows)


def moving(number: int, target: str = "kvm-b") -> VmDecision:
    return VmDecision(f"uuid-{number}", f"vm-{number}", "running", Action.MIGRATE, target, f"node-{target}")


def test_a_token_brings_back_what_was_shown(user, node):
    held = VmDecision("uuid-9", "gpu", "running", Action.LEAVE, blockers=(Reason("local_disk", "…"),))
    plan = plan_of(node, moving(1), moving(2, "kvm-c"), held)
    token, expires_at = confirm.issue(user, "reboot-node", node, OPTIONS, plan)
    read = confirm.read(token, user, "reboot-node", node, OPTIONS)
    assert read.digest == plan.digest()
    assert read.targets == {"uuid-1": "node-kvm-b", "uuid-2": "node-kvm-c"}
    assert [(row.vm_name, row.action) for row in read.shown.decisions] == [
        ("vm-1", Action.MIGRATE),
        ("vm-2", Action.MIGRATE),
        ("gpu", Action.LEAVE),
    ]
    assert 295 < expires_at.timestamp() - time.time() <= 300


def test_what_was_agreed_to_differs_in_nothing_from_the_plan_that_was_shown(user, node):
    """Else a plan that has changed in one VM tells of all the others too."""
    sent = replace(
        moving(1),
        encrypted=True,
        verified_name="kvm-b.example",
        auto_converge=True,
        shape="0123456789abcdef",
        disk_paths={"/dev/mapper/a": "/dev/mapper/b"},
        skip_storage_check=True,
    )
    held = VmDecision(
        "uuid-2", "web", "running", Action.STOP, restart=True, autostart=True, hold_autostart=True
    )
    inhibitor = Inhibitor("backup", "a dump is being written", "block", 0, 17, "root")
    plan = replace(plan_of(node, sent, held), ignored_inhibitors=(inhibitor,))
    token, _end = confirm.issue(user, "reboot-node", node, OPTIONS, plan)
    shown = confirm.read(token, user, "reboot-node", node, OPTIONS).shown
    assert drift(shown, plan).changed == ()
    assert shown.digest() == plan.digest()


def test_a_token_of_another_version_is_refused_and_not_guessed_at(user, node):
    row = ["uuid-1", "web", "stop", None, False, [], ""]
    bound = confirm._bound(user, "reboot-node", node, OPTIONS)
    old = {"nonce": "x", "bound": bound, "plan": "y", "targets": [], "vms": [row]}
    token = signing.dumps(old, salt=confirm.SALT, compress=True)
    with pytest.raises(ConfirmationInvalid, match="another version"):
        confirm.read(token, user, "reboot-node", node, OPTIONS)


@pytest.mark.parametrize("call", ["reboot-node", "retry 4711"])
def test_of_what_was_shown_only_what_has_changed_since_is_named(user, node, call):
    marked = VmDecision("uuid-1", "marked", "running", Action.STOP, autostart=True, hold_autostart=True)
    plain = VmDecision("uuid-2", "plain", "running", Action.STOP, autostart=False)
    backup = Inhibitor("Backup", "a restore", "block", 0, 4711, "root")
    plan = replace(plan_of(node, marked, plain, moving(3)), ignored_inhibitors=(backup,))
    token, _end = confirm.issue(user, call, node, OPTIONS, plan)
    shown = confirm.read(token, user, call, node, OPTIONS).shown
    assert drift(shown, plan).changed == ()
    other = replace(plan, decisions=(marked, replace(plain, action=Action.LEAVE), moving(3)))
    assert drift(shown, other).changed == ("plain: stop → leave",)
    released = replace(plan, decisions=(replace(marked, hold_autostart=False), plain, moving(3)))
    assert drift(shown, released).changed == ("marked: stop, autostart held → stop, autostart on",)


@pytest.mark.parametrize(
    ("call", "options"),
    [
        ("shutdown-node", OPTIONS),
        ("reboot-node", OPTIONS | {"vm_policy": "stop"}),
        ("reboot-node", OPTIONS | {"stop_timeout_s": 121.0}),
        ("reboot-node", OPTIONS | {"vm_overrides": {"web": "stop"}}),
    ],
)
def test_a_token_holds_for_its_call_with_its_options_alone(user, node, call, options):
    token, _end = confirm.issue(user, "reboot-node", node, OPTIONS, plan_of(node))
    with pytest.raises(ConfirmationInvalid):
        confirm.read(token, user, call, node, options)


def test_a_token_holds_for_its_user_and_its_node_alone(user, node):
    token, _end = confirm.issue(user, "reboot-node", node, OPTIONS, plan_of(node))
    with pytest.raises(ConfirmationInvalid):
        confirm.read(token, make_user(), "reboot-node", node, OPTIONS)
    with pytest.raises(ConfirmationInvalid):
        confirm.read(token, user, "reboot-node", make_node(), OPTIONS)


def test_a_token_lives_five_minutes(user, node, monkeypatch):
    token, _end = confirm.issue(user, "reboot-node", node, OPTIONS, plan_of(node))
    now = time.time()
    monkeypatch.setattr(signing.time, "time", lambda: now + 295)
    confirm.read(token, user, "reboot-node", node, OPTIONS)
    monkeypatch.setattr(signing.time, "time", lambda: now + 302)
    with pytest.raises(ConfirmationInvalid) as raised:
        confirm.read(token, user, "reboot-node", node, OPTIONS)
    assert "five minutes" in raised.value.message


@pytest.mark.parametrize("token", ["x", "a:b:c", ":", "\x00", "é" * 50, "." + "A" * 500 + ":x:y"])
def test_what_is_no_token_of_ours_is_refused(user, node, token):
    with pytest.raises(ConfirmationInvalid):
        confirm.read(token, user, "reboot-node", node, OPTIONS)


def test_a_token_signed_for_something_else_is_none(user, node):
    other = signing.dumps({"nonce": "x", "bound": "y", "plan": "z", "targets": [], "vms": []})
    with pytest.raises(ConfirmationInvalid):
        confirm.read(other, user, "reboot-node", node, OPTIONS)


def test_a_token_counts_once(user, node):
    token, _end = confirm.issue(user, "reboot-node", node, OPTIONS, plan_of(node))
    # Two calls have read it before either acts on it.
    first, second = (confirm.read(token, user, "reboot-node", node, OPTIONS) for _call in range(2))
    confirm.redeem(first)
    with pytest.raises(ConfirmationInvalid):
        confirm.redeem(second)
    with pytest.raises(ConfirmationInvalid):
        confirm.read(token, user, "reboot-node", node, OPTIONS)


@pytest.mark.django_db(transaction=True)
def test_a_token_whose_use_is_rolled_back_was_not_used(user, node):
    token, _end = confirm.issue(user, "reboot-node", node, OPTIONS, plan_of(node))

    def use_and_fail(confirmation: Any) -> None:
        with transaction.atomic():
            confirm.redeem(confirmation)
            raise RuntimeError("refused after all")

    with pytest.raises(RuntimeError):
        use_and_fail(confirm.read(token, user, "reboot-node", node, OPTIONS))
    assert not UsedConfirmation.objects.exists()
    confirm.redeem(confirm.read(token, user, "reboot-node", node, OPTIONS))


def test_two_tokens_for_the_same_plan_are_two(user, node):
    tokens = {confirm.issue(user, "reboot-node", node, OPTIONS, plan_of(node))[0] for _ in range(3)}
    assert len(tokens) == 3


def test_the_token_of_a_large_node_still_fits_a_request(user, node):
    rows = [
        VmDecision(f"{number:032x}", f"customer-{number}", "running", Action.MIGRATE, f"t{number % 16}", "x")
        for number in range(500)
    ]
    token, _end = confirm.issue(user, "reboot-node", node, OPTIONS, plan_of(node, *rows))
    assert len(token) < 60_000
