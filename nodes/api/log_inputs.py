"""What the endpoints of journals take. Values are checked once more where the command line is made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from nodes.api.inputs import NodeInput, Strict, Truth, WholeNumber
from nodes.errors import InvalidInput
from nodes.hosts.journal import MAX_LIMIT
from nodes.hosts.journal_filters import MAX_KEYWORD, MAX_SERVICES, read_filters
from nodes.hosts.log_cursor import MAX_CURSOR, LogCursor
from nodes.hosts.log_query import DEFAULT_LIMIT

FILTERS = ("services", "since", "until", "last", "level", "keyword", "regex", "boot", "vm")


class Moment(serializers.DateTimeField):
    """A time with its zone: without one it would be the server's, hours beside what was meant."""

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise serializers.ValidationError(_("This is a time with its zone, as RFC 3339 has it."))
        return super().enforce_timezone(value)


class LogsInput(NodeInput):
    services = serializers.ListField(
        child=Strict(max_length=255),
        max_length=MAX_SERVICES,
        required=False,
        help_text=_("libvirtd, qemu, kernel, ssh, vm-log, identifier:NAME, or the name of a systemd unit."),
    )
    since = Moment(required=False)
    until = Moment(required=False)
    last = Strict(max_length=16, required=False, help_text=_("90s, 2h, 3d: back from the host's own clock."))
    level = Strict(
        max_length=32, required=False, help_text=_("That and worse: warning, 4; or a range: warning..err.")
    )
    keyword = Strict(max_length=MAX_KEYWORD, required=False, trim_whitespace=False)
    regex = Truth(
        required=False,
        help_text=_("The keyword is a PCRE2 expression; a capital letter in it makes case count."),
    )
    boot = Strict(max_length=32, required=False, help_text=_("0, -1 or a boot ID."))
    vm = Strict(max_length=200, required=False, help_text=_("What names this VM."))
    cursor = Strict(max_length=MAX_CURSOR, required=False, help_text=_("Goes without any filter."))
    limit = WholeNumber(min_value=1, max_value=MAX_LIMIT, default=DEFAULT_LIMIT)
    order = serializers.ChoiceField(choices=("newest", "oldest"), required=False)


class LogEntryInput(NodeInput):
    entry = Strict(max_length=400, help_text=_("An entry's own cursor."))


def start_of(data: Mapping[str, Any]) -> LogCursor:
    """Where reading begins: the cursor's place, or the beginning of a query. Raises InvalidInput."""
    given = [name for name in (*FILTERS, "order") if name in data]
    if "cursor" in data:
        if given:
            raise InvalidInput(
                str(_("A cursor carries its query; it goes with no filter of its own.")), field=given[0]
            )
        return LogCursor.decode(data["cursor"])
    return LogCursor(
        read_filters({name: data[name] for name in FILTERS if name in data}), data.get("order") != "oldest"
    )
