"""The audit log on the command line: verified, exported, and its losses accepted."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.timezone import is_naive, make_aware

from nodes.audit.acceptance import accept_loss
from nodes.audit.lines import append, entries_after, last_number, line_of, portions
from nodes.audit.sealer import seal_waiting
from nodes.audit.verification import Verification, verify, verify_file
from nodes.models import Event

POLL_S = 1.0
STDOUT = Path("-")


class Command(BaseCommand):
    help = "Verify or export the audit log."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", required=True)
        check = what.add_parser(
            "verify", help="Name entries that were removed, altered, inserted or cut off."
        )
        check.add_argument("--json", action="store_true", help="print the outcome as JSON")
        check.add_argument("--from-file", type=Path, help="verify an exported file of JSON lines instead")
        export = what.add_parser("export", help="Write entries as JSON lines, behind those already in FILE.")
        export.add_argument("file", type=Path, metavar="FILE", help="- for standard output")
        export.add_argument("--since", help="from this day or time on (2026-01-31, 2026-01-31T12:00:00Z)")
        export.add_argument("--until", help="before this time, or up to the end of this day")
        export.add_argument("--follow", action="store_true", help="go on with entries as they are written")
        accept = what.add_parser(
            "accept", help="Sign for entries that are lost, as after a backup was restored."
        )
        accept.add_argument("--reason", required=True)

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        if what == "verify":
            self._verify(options["from_file"], options["json"])
        elif what == "export":
            self._export(options["file"], options["since"], options["until"], options["follow"])
        else:
            self._tell(accept_loss(options["reason"]), as_json=False)

    def _verify(self, file: Path | None, as_json: bool) -> None:
        try:
            found = verify_file(file) if file is not None else verify()
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from None
        self._tell(found, as_json=as_json)

    def _tell(self, found: Verification, *, as_json: bool) -> None:
        """Prints it; the exit status is 1 where there is a problem."""
        if as_json:
            self.stdout.write(json.dumps(found.to_dict(), indent=2))
        else:
            for problem in found.problems:
                self.stdout.write(self.style.ERROR(problem.message))
            left_out = found.problem_count - len(found.problems)
            if left_out:
                self.stdout.write(self.style.ERROR(f"Further problems: {left_out}."))
            for note in found.notes:
                self.stdout.write(note)
            words = f"Entries verified: {found.entries}. Problems: {found.problem_count}."
            self.stdout.write(self.style.SUCCESS(words) if found.is_clean else words)
        if not found.is_clean:
            sys.exit(1)

    def _export(self, file: Path, since: str | None, until: str | None, follow: bool) -> None:
        begin, end = _moment("--since", since), _moment("--until", until, ends=True)
        try:
            number = last_number(file) if file != STDOUT else 0
            while True:
                seal_waiting()
                for entries in portions(entries_after(number, since=begin, until=end)):
                    self._put(file, entries)
                    number = entries[-1].number or number
                if not follow:
                    return
                time.sleep(POLL_S)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}.") from None
        except KeyboardInterrupt:
            return

    def _put(self, file: Path, entries: Iterable[Event]) -> None:
        lines = map(line_of, entries)
        if file != STDOUT:
            append(file, lines)
            return
        for line in lines:
            self.stdout.write(line, ending="")
        self.stdout.flush()


def _moment(option: str, text: str | None, *, ends: bool = False) -> datetime | None:
    if text is None:
        return None
    try:
        day = parse_date(text)
        found = parse_datetime(text) if day is None else None
        if day is not None:
            found = datetime.combine(day + timedelta(days=1) if ends else day, clock_time.min)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise CommandError(f"{option} takes a day or a time, such as 2026-01-31 or 2026-01-31T12:00:00Z.")
    return make_aware(found, UTC) if is_naive(found) else found
