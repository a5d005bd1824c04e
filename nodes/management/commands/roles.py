"""``manage.py roles``: who has which role; granted and revoked by who has a shell on the server."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware

from nodes.engine import grants
from nodes.engine.grants import Scope
from nodes.errors import NodeAdminError
from nodes.events import Actor
from nodes.models import Node, Role, RoleAssignment, User
from nodes.models.event import Via

ACTOR = Actor(via=Via.COMMAND)


class Command(BaseCommand):
    help = "List roles and their assignments, make roles, grant and revoke them."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="roles with their permissions, and who has them")
        make = actions.add_parser("make", help="make a role of one's own")
        make.add_argument("name")
        make.add_argument("permissions", nargs="+", metavar="permission")
        remove = actions.add_parser("remove", help="remove an own role, and revoke it from all who have it")
        remove.add_argument("name")
        give = actions.add_parser("assign", help="grant a role to a user or a group")
        give.add_argument("role")
        holder = give.add_mutually_exclusive_group(required=True)
        holder.add_argument("--user")
        holder.add_argument("--group")
        scope = give.add_mutually_exclusive_group()
        scope.add_argument("--node", help="for this node alone")
        scope.add_argument("--label", action="append", metavar="KEY=VALUE", help="for nodes that have all")
        give.add_argument("--until", help="ISO 8601, such as 2027-01-31T18:00Z")
        revoke = actions.add_parser("revoke", help="revoke a role from its holder")
        revoke.add_argument("number", type=int, help="as list prints it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except NodeAdminError as error:
            raise CommandError(error.detail()) from error

    def _list(self, options: dict[str, Any]) -> None:
        for role in Role.objects.all():
            self.stdout.write(f"{role.name}: {', '.join(role.permissions)}")
        rows = RoleAssignment.objects.select_related("role", "user", "group", "node")
        for row in rows:
            kind = "user" if row.user is not None else "group"
            end = f" until {row.expires_at.isoformat()}" if row.expires_at is not None else ""
            self.stdout.write(f"#{row.pk} {row.role.name} → {kind} {row.holder} for {row.scope_words}{end}")

    def _make(self, options: dict[str, Any]) -> None:
        role = grants.make_role(ACTOR, options["name"], options["permissions"])
        self.stdout.write(f"Made the role {role.name}.")

    def _remove(self, options: dict[str, Any]) -> None:
        grants.remove_role(ACTOR, _found(Role.objects.filter(name=options["name"]), "role", options["name"]))
        self.stdout.write(f"Removed the role {options['name']}.")

    def _assign(self, options: dict[str, Any]) -> None:
        role = _found(Role.objects.filter(name=options["role"]), "role", options["role"])
        holder: User | Group
        if options["user"]:
            holder = _found(User.objects.filter(username=options["user"]), "user", options["user"])
        else:
            holder = _found(Group.objects.filter(name=options["group"]), "group", options["group"])
        node, labels = None, None
        if options["node"]:
            node = _found(Node.objects.named(options["node"]), "node", options["node"])
        if options["label"]:
            labels = dict(text.partition("=")[::2] for text in options["label"])
        until = _time(options["until"]) if options["until"] else None
        row = grants.assign_role(ACTOR, role, holder, Scope(node, labels), expires_at=until)
        self.stdout.write(f"#{row.pk} {role.name} → {row.holder} for {row.scope_words}")

    def _revoke(self, options: dict[str, Any]) -> None:
        rows = RoleAssignment.objects.select_related("role", "user", "group", "node")
        row = _found(rows.filter(pk=options["number"]), "assignment", str(options["number"]))
        grants.revoke_role(ACTOR, row)
        self.stdout.write(f"Revoked {row.role.name} of {row.holder}.")


def _found(rows: Any, kind: str, name: str) -> Any:
    row = rows.first()
    if row is None:
        raise CommandError(f"There is no {kind} “{name}”. “manage.py roles list” shows what there is.")
    return row


def _time(text: str) -> Any:
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise CommandError(f"“{text}” is no time. Write it like 2027-01-31T18:00Z.")
    return make_aware(found) if is_naive(found) else found
