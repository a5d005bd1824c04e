"""Print what a user that nodeadmin logs in as needs on a host: a sudoers file, or a rule for polkit."""

from __future__ import annotations

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from nodes.inventory.privileged import polkit_rule, sudoers

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class Command(BaseCommand):
    help = (
        "Print a sudoers file by which a user may run what nodeadmin runs as root on a host, and nothing "
        "more. Save it as /etc/sudoers.d/nodeadmin (mode 0440) there, after visudo -c -f FILE. With --polkit "
        "print the rule by which the user may manage libvirt."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", default="nodeadmin", help="who logs in on the host (nodeadmin)")
        parser.add_argument(
            "--password",
            action="store_true",
            help="have sudo ask for the user's password; nodeadmin needs it as credential.sudo_password",
        )
        parser.add_argument("--polkit", action="store_true", help="print the rule for polkit")

    def handle(self, *args: Any, **options: Any) -> None:
        user = options["user"]
        if not _USER.fullmatch(user):
            raise CommandError("A user's name has letters, digits, dots, hyphens and underscores.")
        if options["polkit"]:
            self.stdout.write(polkit_rule(user), ending="")
        else:
            self.stdout.write(sudoers(user, password=options["password"]), ending="")
