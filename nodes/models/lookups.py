"""What Django's own lookups do not have.

``name__subsequence="km3"`` matches ``kvm-03``: the letters in their order, with gaps.
"""

from __future__ import annotations

import json
from typing import Any

from django.db.models import CharField, Func, Lookup
from django.db.models.sql.compiler import SQLCompiler


@CharField.register_lookup
class Subsequence(Lookup):
    """LIKE with a wildcard between any two letters; blanks in the pattern count for nothing."""

    lookup_name = "subsequence"

    def get_prep_lookup(self) -> str:
        letters = [char for char in str(self.rhs).lower() if not char.isspace()]
        escaped = ("\\" + char if char in "\\%_" else char for char in letters)
        return "%" + "%".join(escaped) + "%"

    def as_sql(self, compiler: SQLCompiler, connection: Any) -> tuple[str, tuple[str | int, ...]]:
        left, left_params = self.process_lhs(compiler, connection)
        right, right_params = self.process_rhs(compiler, connection)
        return f"LOWER({left}) LIKE {right} ESCAPE '\\'", (*left_params, *right_params)


class LabelText(Func):
    """The text under ``key`` in a column of labels, NULL where it has none.

    Django's own transforms take a key of digits for a place in a list, which an object does not have.
    """

    output_field = CharField()

    def __init__(self, column: str, key: str) -> None:
        super().__init__(column)
        self.key = key

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **_context: Any) -> Any:
        column, params = compiler.compile(self.source_expressions[0])
        return f"JSON_EXTRACT({column}, %s)", (*params, f"$.{json.dumps(self.key)}")

    def as_postgresql(self, compiler: SQLCompiler, connection: Any, **_context: Any) -> Any:
        column, params = compiler.compile(self.source_expressions[0])
        return f"({column} ->> %s::text)", (*params, self.key)
