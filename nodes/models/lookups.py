"""``name__subsequence="km3"`` matches ``kvm-03``: the letters in their order, with gaps."""

from __future__ import annotations

from typing import Any

from django.db.models import CharField, Lookup
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
