"""Lists of rows: columns and their orders, the page that is looked at, exports. The URL holds all state."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse

from nodes.inventory.parsing.visible import spreadsheet_cell, visible_json

PAGE_SIZE = 50
EXPORT_LIMIT = 50_000
"""Rows of one export; more than any fleet of ours, less than what would fill the memory of a browser."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: ``order`` is its word in the URL ("" where it cannot be sorted), ``fields`` what that means.

    ``descending`` columns are of the kind whose largest value is wanted first (use, age).
    """

    label: str
    order: str = ""
    fields: tuple[str, ...] = ()
    css: str = ""
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """A column as the template shows it."""

    label: str
    order: str
    css: str
    sorted: str
    """``ascending``, ``descending`` or ""."""
    next_order: str

    @property
    def aria_sort(self) -> str:
        return self.sorted or "none"


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of rows, ready to be shown."""

    page: Page[Any]
    headers: tuple[Header, ...]
    page_range: tuple[Any, ...]


def list_rows(
    request: HttpRequest, rows: QuerySet[Any], columns: Sequence[Column], *, size: int = PAGE_SIZE
) -> Listing:
    """Cut the ordered ``rows`` to ``?page=``. What the URL has wrong is ignored, never an error."""
    wanted = wanted_order(request, columns)
    paginator = Paginator(rows, size)
    page = paginator.get_page(request.GET.get("page"))
    shown = tuple(paginator.get_elided_page_range(page.number, on_each_side=2, on_ends=1))
    return Listing(page, tuple(_header(column, wanted) for column in columns), shown)


def wanted_order(request: HttpRequest, columns: Sequence[Column]) -> str:
    """``?order_by=`` where it names a column that can be sorted, else ""."""
    wanted = request.GET.get("order_by", "")
    known = {column.order for column in columns if column.order}
    return wanted if wanted.removeprefix("-") in known else ""


def order_rows(rows: QuerySet[Any], columns: Sequence[Column], wanted: str) -> QuerySet[Any]:
    """``rows`` in the order ``wanted``; unknown values come last either way."""
    descending, name = wanted.startswith("-"), wanted.lstrip("-")
    for column in columns:
        if column.order and column.order == name:
            keys = [
                F(field).desc(nulls_last=True) if descending else F(field).asc(nulls_last=True)
                for field in column.fields or (name,)
            ]
            # The primary key makes the order total: pages of equal values would else overlap.
            return rows.order_by(*keys, "pk")
    return rows


def named(rows: QuerySet[Any], column: str, text: str) -> QuerySet[Any]:
    """The rows that have ``text`` in ``column``; only those that are just that, where there are any.

    So "kvm-1" typed in full is not mixed up with kvm-10, and a part of a name still finds something.
    """
    if not text:
        return rows
    exact = rows.filter(**{column: text})
    return exact if exact.order_by().exists() else rows.filter(**{f"{column}__icontains": text})


def _header(column: Column, wanted: str) -> Header:
    direction = ""
    if column.order and wanted.lstrip("-") == column.order:
        direction = "descending" if wanted.startswith("-") else "ascending"
    first, second = ("-", "") if column.descending else ("", "-")
    sign = second if direction == ("descending" if first else "ascending") else first
    return Header(column.label, column.order, column.css, direction, f"{sign}{column.order}")


def export_rows(
    request: HttpRequest, name: str, rows: QuerySet[Any], to_record: Callable[[Any], Mapping[str, Any]]
) -> HttpResponse | None:
    """The rows as a CSV or JSON file where ``?format=`` asks for one, else None.

    Not streamed: under ASGI Django would collect a synchronous stream before it sends the first byte.
    """
    wanted = request.GET.get("format")
    if wanted not in ("csv", "json"):
        return None
    records = (to_record(row) for row in rows[:EXPORT_LIMIT].iterator(chunk_size=500))
    if wanted == "csv":
        response = HttpResponse("".join(csv_lines(records)), content_type="text/csv; charset=utf-8")
    else:
        response = HttpResponse("".join(json_lines(records)), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{name}.{wanted}"'
    return response


class _Echo:
    """A file that gives back what is written to it: csv.writer has no other way to make lines."""

    def write(self, text: str) -> str:
        return text


def csv_lines(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    head: list[str] = []
    for record in records:
        if not head:
            head = list(record)
            yield writer.writerow(head)
        yield writer.writerow([_cell(record[key]) for key in head])


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return visible_json(json.dumps(value, ensure_ascii=False))
    return spreadsheet_cell(str(value))


def json_lines(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield "["
    for number, record in enumerate(records):
        yield (
            ("," if number else "") + "\n" + visible_json(json.dumps(record, default=str, ensure_ascii=False))
        )
    yield "\n]\n"
