"""What the matrix is tried on: two nodes that lead to a trap, what belongs to them, and the callers."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone
from guardian.shortcuts import assign_perm

from nodes import access
from nodes.management.setup import ensure_groups
from nodes.models import (
    ApiToken,
    Bmc,
    Credential,
    DeclaredSharedStorage,
    Device,
    Event,
    InventoryChange,
    JumpHost,
    Node,
    Role,
    User,
)
from tests.factories import grant, make_node, make_operation, make_snapshot, make_user
from tests.permissions.matrix import CALLERS, Caller
from tests.permissions.people import give, token_of

TOKENS: dict[str, dict[str, Any]] = {
    "read-only token": {"read_only": True},
    "token for a node": {"permissions": ("view_node", "view_node_logs", "power_node"), "node": "a"},
    "token for a label": {
        "permissions": ("view_node", "change_node", "delete_node", "add_node"),
        "scope": "labels",
        "selector": {"rack": "b1"},
    },
    "token for all nodes": {"permissions": ("view_node", "maintain_node", "add_node", "scan_host")},
    "revoked token": {},
    "expired token": {"expires_at": timezone.now() - timedelta(seconds=1)},
    "token from elsewhere": {"networks": ["192.0.2.0/24"]},
}


ANSWER = b"SSH-9.9-trap\r\n"
"""No version of SSH that anybody speaks: nobody then tries again, and no thread is left that does."""


class Trap:
    """A port of this machine: every connection to it is counted, and told at once that no host is there."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._seen: list[int] = []
        self._open: list[socket.socket] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, name="trap", daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()

    def count(self) -> int:
        """Connections since the last look. One of its own comes after all that were made before it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as own, self._changed:
            mark = own.getsockname()[1]
            assert self._changed.wait_for(lambda: mark in self._seen, timeout=5)
            found = self._seen.index(mark)
            self._seen.clear()
        return found

    def _accept(self) -> None:
        while True:
            try:
                connection, (_host, port) = self._listener.accept()
            except OSError:
                return
            with suppress(OSError):
                connection.sendall(ANSWER)
            # Closed later: a reset could come before the answer is read.
            self._open.append(connection)
            if len(self._open) > 32:
                self._open.pop(0).close()
            with self._changed:
                self._seen.append(port)
                self._changed.notify_all()


class World:
    """Rows, and one client for each caller."""

    def __init__(self, trap: Trap) -> None:
        self.trap = trap
        self.state: tuple[Any, ...] = ()
        """What is there before any call; each is rolled back."""
        self.uri = f"qemu+ssh://root@127.0.0.1:{trap.port}/system"
        self.bmc = f"https://127.0.0.1:{trap.port}"
        ensure_groups()
        self.nodes = {"a": self._node("kvm-a", "a1"), "b": self._node("kvm-b", "b1")}
        self.both = [node.name for node in self.nodes.values()]
        self.uuids = [str(node.uuid) for node in self.nodes.values()]
        self.failed: dict[str, Any] = {}
        self.running: dict[str, Any] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        for letter, node in self.nodes.items():
            self._belongings(letter, node)
        declared = DeclaredSharedStorage.objects.create(kind="path", name="/srv/images")
        declared.nodes.set(self.nodes.values())
        self.declared = declared.pk
        self.root = make_user("root", is_superuser=True, is_staff=True)
        self.others_token = token_of(self.root)[0].pk
        self.callers = {caller.name: self._client(caller) for caller in CALLERS}
        self.jump_host = JumpHost.objects.create(
            name="bastion",
            host="127.0.0.1",
            port=trap.port,
            user="jump",
            host_key=self.nodes["a"].host_key,
            host_key_fingerprint=self.nodes["a"].host_key_fingerprint,
            credential_kind="nodeadmin_key",
        )
        self.own_key = access.own_key_pair().pk
        somebody = make_user("somebody")
        self.others_factor = Authenticator.objects.create(user=somebody, type="totp", data={}).pk
        self.others_session = UserSession.objects.create(
            user=somebody, ip="192.0.2.9", session_key="x" * 32, user_agent="curl"
        ).pk
        self.role = Role.objects.create(name="own", permissions=["view_node"])
        self.assignment = give(self.root, "view_node", "change_node")

    def _node(self, name: str, rack: str) -> Node:
        node = make_node(
            name,
            uri=self.uri,
            labels={"rack": rack},
            host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
            host_key_fingerprint="SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
        )
        Credential.objects.create(node=node, kind="nodeadmin_key")
        Bmc.objects.create(node=node, url=self.bmc, system_path="/redfish/v1/Systems/1")
        return node

    def _belongings(self, letter: str, node: Node) -> None:
        snapshot = make_snapshot(node)
        failed = make_operation(
            node,
            kind="update-node",
            status="failed",
            exclusive=False,
            params={"uri": node.uri, "key_type": "", "fingerprint": ""},
        )
        running = make_operation(node, kind="update-node", status="running", exclusive=False)
        event = Event.objects.create(kind="x", node=node, node_name=node.name, message="m")
        moment = timezone.now()
        InventoryChange.objects.create(
            node=node, observed_at=moment, section="pci", kind="added", subject="0000:01:00.0"
        )
        Device.objects.create(node=node, section="pci", key="0000:01:00.0", kind="gpu")
        self.failed[letter], self.running[letter] = failed.pk, running.pk
        self.rows[letter] = {
            "node": node.pk,
            "snapshot": snapshot.pk,
            "operation": failed.pk,
            "event": event.pk,
        }

    def name(self, node: str) -> str:
        return self.nodes[node].name

    def labels(self, node: str) -> str:
        return f"rack={node}1"

    # -- callers ------------------------------------------------------------------------------------

    def user_of(self, name: str) -> User:
        """The user of a caller who signs in, made with what the table says."""
        user = make_user(name.replace(" ", "-"))
        if name == "viewer by role":
            give(user, *Role.objects.get(name="viewer").permissions)
        elif name == "operator by grant":
            grant(user, self.nodes["a"], "view_node", "view_node_logs", "maintain_node")
        elif name == "changer by group":
            group = Group.objects.create(name="changers")
            user.groups.add(group)
            for one in ("view_node", "change_node"):
                assign_perm(one, group, self.nodes["b"])
        elif name == "by role on label":
            role = Role.objects.get(name="administrator")
            give(user, *role.permissions, labels={"rack": "a1"})
        elif name == "administrator":
            user.groups.add(Group.objects.get(name="administrators"))
        elif name in ("superuser", "inactive"):
            user.is_superuser, user.is_active = True, name == "superuser"
            user.save()
        return user

    def token(self, name: str) -> str:
        options = dict(TOKENS[name])
        names = options.pop("permissions", ())
        if node := options.pop("node", ""):
            options |= {"scope": "nodes", "node_uuids": [str(self.nodes[node].uuid)]}
        row, text = token_of(self.root, *names, **options)
        if name == "revoked token":
            ApiToken.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
        return text

    def _client(self, caller: Caller) -> Client:
        client = Client(raise_request_exception=False)
        if caller.token:
            client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {self.token(caller.name)}"
        elif caller.name != "anonymous":
            user = self.user_of(caller.name)
            active = user.is_active
            client.force_login(user)
            assert active or not user.is_active
        return client

    def call(self, caller: Caller, endpoint: str, body: dict[str, Any]) -> Any:
        access.close_pool()
        text = json.dumps(body)
        return self.callers[caller.name].post(f"/api/{endpoint}", text, content_type="application/json")
