"""Facts of a host as a column of the database takes them: a refused one would cost the whole inventory."""

from __future__ import annotations

import math
from typing import Any

from django.db import models

from nodes.inventory.plain import clean_text

_BITS = {
    "SmallIntegerField": 15, "PositiveSmallIntegerField": 15, "BigIntegerField": 63,
    "PositiveBigIntegerField": 63,
}  # fmt: skip
"""PostgreSQL's; SQLite takes up to 63 everywhere, and what is stored in one has to fit the other."""


def fitting(model: type[models.Model] | models.Model, column: str, value: Any) -> Any:
    """``value`` for ``column``: text cleaned and cut to its length ("" for None), a number that is beyond the
    column's range None."""
    field: Any = model._meta.get_field(column)
    if isinstance(field, models.CharField | models.TextField):
        return clean_text(str(value or ""))[: field.max_length]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and isinstance(field, models.IntegerField):
        most = (1 << _BITS.get(field.get_internal_type(), 31)) - 1
        return value if (0 if "Positive" in field.get_internal_type() else -most) <= value <= most else None
    if isinstance(value, int) and isinstance(field, models.DecimalField):
        return value if abs(value) < 10 ** (field.max_digits or 18) else None
    return value
