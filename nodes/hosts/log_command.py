"""The command with which a person sees on the host what they see here."""

from __future__ import annotations

import shlex

from nodes.hosts.journal_filters import (
    JournalFilters,
    bounds,
    is_case_sensitive,
    readable_command,
    search_pattern,
    selection,
)
from nodes.hosts.qemu_logs import paths


def shown_command(
    filters: JournalFilters, *, newest_first: bool = False, limit: int | None = None, follow: bool = False
) -> str:
    """A command line for a shell: journalctl, and the VMs' own logs where they belong to the query.

    ``limit`` is how many of the newest, and holds only for a query that begins with those. The lines of both
    come one after the other, not in order of time.
    """
    if not newest_first and not follow:
        limit = None
    parts = []
    if filters.reads_journal:
        parts.append(_journal(filters, newest_first=newest_first, limit=limit, follow=follow))
    if filters.reads_vm_logs:
        parts.append(_files(filters, limit=limit, follow=follow))
    # What follows never ends, so the first of two has to run beside the other.
    return (" & " if follow else "; ").join(parts)


def _journal(filters: JournalFilters, *, newest_first: bool, limit: int | None, follow: bool) -> str:
    arguments = ["--reverse"] if newest_first else ["--follow"] if follow else []
    if limit is not None and follow and search_pattern(filters):
        # Otherwise the newest lines would be taken first, and searched then.
        arguments.append("--no-tail")
    elif limit is not None:
        arguments.append(f"--lines={limit}")
    arguments += bounds(filters, cursor="", since=filters.since)
    return readable_command([*arguments, *selection(filters, with_grep=True)])


def _files(filters: JournalFilters, *, limit: int | None, follow: bool) -> str:
    # The last lines of all are not the last ones in which the keyword is.
    lines = f" --lines={limit}" if limit is not None and not filters.keyword else " --lines=+1"
    reader = f"tail --quiet{lines}{' --follow=name' if follow else ''} -- {paths(filters.vm)}"
    if not filters.keyword:
        return reader
    kind = "--perl-regexp" if filters.regex else "--fixed-strings"
    case = "" if is_case_sensitive(filters) else " --ignore-case"
    searched = f"{reader} | grep {kind}{case} -- {shlex.quote(filters.keyword)}"
    return searched if limit is None or follow else f"{searched} | tail --lines={limit}"
