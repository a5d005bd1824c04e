"""A Celery worker: runs operations, on this machine or another, as many of them as wanted."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Run operations until ended by SIGTERM or SIGINT. Needs NODEADMIN_ENGINE=celery."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.NODEADMIN_ENGINE != "celery":
            raise CommandError(
                "With the embedded engine the server runs operations itself; set NODEADMIN_ENGINE=celery."
            )
        call_command("check", fail_level="ERROR", verbosity=0)
        from celery.platforms import SecurityWarning

        from nodeadmin.celery import app

        # Root is a matter of the check nodeadmin.W002, and says nothing here that it does not say there.
        warnings.filterwarnings("ignore", category=SecurityWarning)

        os.umask(0o077)
        name = f"nodeadmin-{os.getpid()}@%h"
        # Workers need not know each other: what is whose stands in the database.
        quiet = ("--without-mingle", "--without-gossip", "--without-heartbeat")
        sys.exit(app.worker_main(["--quiet", "worker", "--pool", "threads", "--hostname", name, *quiet]))
