"""What a first start makes: groups, the first administrator, this machine as the first node.

Every part looks first whether it is there, so that an interrupted set-up is simply run again, and what
people have changed since stays as they changed it.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Callable

from django.contrib.auth.models import Group, Permission
from django.db import transaction

from nodes.engine.grants import ensure_roles
from nodes.engine.submit import submit
from nodes.events import SYSTEM, record, target_of
from nodes.models import Node, Operation, User
from nodes.models.event import Category
from nodes.permissions import DECLARE_STORAGE, FLEET_PERMISSIONS, MAINTAIN, NODE_PERMISSIONS, VIEW, VIEW_LOGS

ADMIN = "admin"
GROUPS = {
    "administrators": (*NODE_PERMISSIONS, *FLEET_PERMISSIONS, *DECLARE_STORAGE),
    "operators": (VIEW, VIEW_LOGS, MAINTAIN),
    "viewers": (VIEW,),
}
LOCAL_URI = "qemu:///system"


@transaction.atomic
def ensure_groups() -> list[str]:
    """Make the groups that are missing, with their permissions; gives their names.

    Groups have model permissions, which count for all nodes. The roles of the same names are for those who
    are to have them for some nodes; they are brought to what this version says.
    """
    ensure_roles()
    made = []
    for name, codenames in GROUPS.items():
        group, created = Group.objects.get_or_create(name=name)
        if created:
            found = Permission.objects.filter(
                content_type__app_label="nodes",
                content_type__model__in=("node", "declaredsharedstorage"),
                codename__in=codenames,
            )
            group.permissions.set(found)
            made.append(name)
    return made


@transaction.atomic
def ensure_administrator(show: Callable[[str], None]) -> None:
    """Make the first administrator where there is no superuser yet, and show the generated password.

    ``show`` is called before the user is committed: a set-up that is killed between the two makes another
    one at its next start, where it would otherwise leave one whose password nobody has seen.
    """
    if User.objects.filter(is_superuser=True).exists():
        return
    password = secrets.token_urlsafe(15)
    user = User.objects.create_superuser(ADMIN, password=password)
    user.groups.set(Group.objects.filter(name="administrators"))
    words = "The first administrator was created."
    record("administrator_created", words, target=target_of(user), category=Category.AUDIT)
    show(password)


def ensure_local_node() -> Operation | None:
    """Ask for this machine to be added, once: whoever removes it later does not find it back."""
    if Node.objects.exists() or Operation.objects.filter(kind="add-node").exists():
        return None
    name = local_name()
    return submit(
        "add-node", actor=SYSTEM, node_name=name, params={"uri": LOCAL_URI, "type": "compute", "labels": {}}
    )


def local_name() -> str:
    """This machine's host name in the form of a node's name."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower().partition(".")[0]).strip("-.")
    return name[:63].rstrip("-.") or "local"
