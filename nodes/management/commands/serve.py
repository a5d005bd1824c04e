"""Everything after the virtual environment: migrate, set up what is missing, and serve."""

from __future__ import annotations

import hashlib
import os
import sys
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor

from nodeadmin.server import run
from nodes.management.setup import (
    ADMIN,
    ensure_administrator,
    ensure_groups,
    ensure_local_node,
)

# What installed packages bring and no page of ours uses: the browsable API and a second viewer of the schema.
UNUSED_STATIC = ("rest_framework", "redoc")


class Command(BaseCommand):
    help = "Migrate, make what a first start needs, and serve on loopback."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--data-dir", type=Path, default=None)

    def handle(self, *args: Any, port: int, data_dir: Path | None, **options: Any) -> None:
        self._use_data_dir(data_dir)
        os.umask(0o077)
        self._migrate()
        self._collect_static()
        ensure_groups()
        ensure_administrator(partial(self._show_administrator, port))
        if settings.NODEADMIN_LOCAL_NODE and ensure_local_node() is not None:
            self.stdout.write("This machine is being added as the first node.")
        call_command("check", fail_level="ERROR", verbosity=0)
        self.stdout.write(f"nodeadmin serves on http://127.0.0.1:{port}  (data in {settings.DATA_DIR})")
        self.stdout.flush()
        run(port, workers=settings.NODEADMIN_WEB_WORKERS)

    def _use_data_dir(self, data_dir: Path | None) -> None:
        """Settings were read before the option: with another directory, begin again under it."""
        if data_dir is None or data_dir.expanduser().absolute() == settings.DATA_DIR:
            return
        os.environ["NODEADMIN_DATA_DIR"] = str(data_dir.expanduser().absolute())
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - the same command, no shell

    def _migrate(self) -> None:
        directory: Path = settings.DATA_DIR
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            raise CommandError(f"{directory} can be entered by others. Run: chmod 700 {directory}")
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            self.stdout.write("Preparing the database …")
            connection = connections[DEFAULT_DB_ALIAS]
            if connection.vendor == "postgresql":  # a large table may take as long as it needs
                with connection.cursor() as cursor:
                    cursor.execute("SET statement_timeout = 0")
            call_command("migrate", interactive=False, verbosity=0)
            connection.close()

    def _collect_static(self) -> None:
        """Collect when a file has changed since the last time: it takes seconds, looking takes none."""
        stamp = settings.DATA_DIR / "static.stamp"
        digest = hashlib.sha256()
        for root in settings.STATICFILES_DIRS:
            for file in sorted(path for path in Path(root).rglob("*") if path.is_file()):
                info = file.stat()
                digest.update(f"{file}:{info.st_size}:{info.st_mtime_ns}\n".encode())
        if stamp.exists() and stamp.read_text() == digest.hexdigest() and settings.STATIC_ROOT.exists():
            return
        self.stdout.write("Preparing static files …")
        call_command(
            "collectstatic", interactive=False, verbosity=0, clear=True, ignore_patterns=[*UNUSED_STATIC]
        )
        stamp.write_text(digest.hexdigest())

    def _show_administrator(self, port: int, password: str) -> None:
        self.stdout.write("")
        self.stdout.write("  The first administrator. This password is shown only now:")
        self.stdout.write(f"    address   http://127.0.0.1:{port}/")
        self.stdout.write(f"    user      {ADMIN}")
        self.stdout.write(f"    password  {password}")
        self.stdout.write("")
        self.stdout.flush()
