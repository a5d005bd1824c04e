"""No code changes a watched model behind the back of the audit log's watch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps

from nodes.audit.watched import LISTS, WATCHED, installed

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for room in ("nodes", "nodeadmin")
    for path in (ROOT / room).rglob("*.py")
    if "migrations" not in path.parts
)
BULK = {"bulk_create", "bulk_update", "_raw_delete", "aupdate", "abulk_create", "abulk_update", "raw"}
MODELS = {watched.model.rpartition(".")[2]: watched for watched in WATCHED}
SHORTCUTS = {"bulk_assign_perm", "bulk_remove_perm"}


def ignored(model: str) -> set[str]:
    return {name.removesuffix("_id") for name in MODELS[model].ignored}


def bypasses(source: str) -> Iterator[str]:
    """``Model.….update(column=…)`` of a watched column, bulk calls, and guardian's bulk shortcuts."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in SHORTCUTS:
            yield f"{node.lineno}: {name}"
        if not isinstance(node.func, ast.Attribute) or name not in {*BULK, "update"}:
            continue
        roots = {inner.id for inner in ast.walk(node.func.value) if isinstance(inner, ast.Name)}
        reached = {inner.attr for inner in ast.walk(node.func.value) if isinstance(inner, ast.Attribute)}
        for model in MODELS:
            named = model in roots or (model == "ApiToken" and "api_tokens" in reached)
            written = {word.arg for word in node.keywords if word.arg}
            if named and (name != "update" or written - ignored(model)):
                yield f"{node.lineno}: {model}.{name}({', '.join(sorted(written))})"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_watched_models_are_changed_row_by_row(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if "update(" in text or "bulk_" in text or ".raw(" in text:
        assert list(bypasses(text)) == []


@pytest.mark.parametrize(
    "source",
    [
        "User.objects.filter(pk=1).update(is_superuser=True)",
        "Group.objects.bulk_create([Group(name='x')])",
        "ApiToken.objects.filter(user=user).exclude(pk=1).update(revoked_at=now)",
        "user.api_tokens.filter(revoked_at=None).update(revoked_at=now)",
        "NodeUserObjectPermission.objects.bulk_create(rows)",
        "bulk_assign_perm('x', users, node)",
        "Credential.objects.filter(node=node).update(secret=None)",
    ],
)
def test_a_bypass_is_found(source: str) -> None:
    assert list(bypasses(source))


@pytest.mark.parametrize(
    "source", ["ApiToken.objects.filter(pk=1).update(last_used_at=now)", "Node.objects.update(name='x')"]
)
def test_what_is_not_watched_may_be_updated_at_once(source: str) -> None:
    assert not list(bypasses(source))


def test_every_model_that_is_named_is_one_and_so_is_every_column() -> None:
    """Those of apps that are not installed cannot be looked at."""
    for watched in WATCHED:
        app = watched.model.partition(".")[0]
        model = installed(watched.model)
        assert model is not None or app not in apps.app_configs
        if model is not None:
            columns = {field.attname for field in model._meta.concrete_fields}
            assert columns >= {*watched.ignored, *watched.secrets}
    for watched_list in LISTS:
        model = installed(watched_list.model)
        assert model is not None
        assert model._meta.get_field(watched_list.field).many_to_many
