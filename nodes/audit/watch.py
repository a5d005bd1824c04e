"""Writes an entry for each change of a watched model, from what changed and not from what was posted.

The state before is read from the database, and the entry is written in the transaction of the change: Django
sends ``pre_save`` and ``post_save`` outside of the one that ``save`` makes, so ``save_base`` itself is
wrapped in one here. Deletions and many-to-many fields have their signals inside of theirs; so have the rows
of fixtures, which ``loaddata`` saves past ``save_base`` of their class.
``QuerySet.update`` and ``bulk_create`` pass all of this by; tests/audit/test_bypass.py finds any such use.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import models, router, transaction
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save

from nodes.audit.watched import LISTS, WATCHED, Watched, WatchedList, Words, installed
from nodes.events import Target, is_told, record
from nodes.models import Node
from nodes.models.event import Category, Severity
from nodes.models.sealed import SealedField

Values = dict[str, Any]
MOST_MEMBERS = 200
"""Names of a list that an entry shows."""
MOST_TEXT = 1000
"""Characters of a value that an entry shows."""
_BEFORE = "_audit_before"
SET, NOT_SET = "set", "not set"


def install() -> None:
    """Begin to watch. A second call changes nothing."""
    for watched in WATCHED:
        model = installed(watched.model)
        if model is not None and not getattr(model.save_base, "watched", False):
            _wrap_save(model, watched)
            pre_save.connect(_loading, sender=model, dispatch_uid=watched.model)
            post_save.connect(
                functools.partial(_loaded, watched), sender=model, weak=False, dispatch_uid=watched.model
            )
            pre_delete.connect(
                functools.partial(_deleting, watched), sender=model, weak=False, dispatch_uid=watched.model
            )
    for watched_list in LISTS:
        model = installed(watched_list.model)
        if model is not None:
            m2m_changed.connect(
                functools.partial(_list_changes, watched_list),
                sender=getattr(model, watched_list.field).through,
                weak=False,
                dispatch_uid=f"{watched_list.model}.{watched_list.field}",
            )
            pre_delete.connect(
                functools.partial(_member_goes, watched_list),
                sender=model._meta.get_field(watched_list.field).related_model,
                weak=False,
                dispatch_uid=f"members of {watched_list.model}.{watched_list.field}",
            )


def _wrap_save(model: type[models.Model], watched: Watched) -> None:
    original = model.save_base

    @functools.wraps(original)
    def save_base(self: models.Model, *args: Any, **kwargs: Any) -> None:
        names = kwargs.get("update_fields")
        columns = _columns(self, watched, frozenset(names) if names is not None else None)
        if is_told() or not columns or kwargs.get("raw"):
            original(self, *args, **kwargs)
            return
        database = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=database, savepoint=False):
            before = _stored(self)
            original(self, *args, **kwargs)
            _saved(watched, self, before, columns)

    save_base.watched = True  # type: ignore[attr-defined]
    model.save_base = save_base  # type: ignore[method-assign]


def _loading(sender: Any, instance: models.Model, raw: bool = False, **_more: Any) -> None:
    if raw:
        instance.__dict__[_BEFORE] = _stored(instance)


def _loaded(watched: Watched, sender: Any, instance: models.Model, raw: bool = False, **_more: Any) -> None:
    """A row of a fixture is in the database."""
    if raw and not is_told():
        before = instance.__dict__.pop(_BEFORE, None)
        _saved(watched, instance, before, _columns(instance, watched, None))


def _columns(row: models.Model, watched: Watched, names: frozenset[str] | None) -> tuple[str, ...]:
    """The watched columns that a save may write: all that are loaded, or those that are named."""
    deferred = row.get_deferred_fields()
    return tuple(
        field.attname
        for field in row._meta.concrete_fields
        if not field.primary_key
        and field.attname not in watched.ignored
        and field.attname not in deferred
        and (names is None or field.name in names or field.attname in names)
    )


def _stored(row: models.Model) -> models.Model | None:
    """The row as the database has it; None for one that is new."""
    if row.pk is None:
        return None
    return type(row)._base_manager.filter(pk=row.pk).first()


def _saved(
    watched: Watched, row: models.Model, before: models.Model | None, columns: tuple[str, ...]
) -> None:
    if before is None:
        after = _values(watched, row, columns)
        _write(watched, watched.created, row, {"after": after}, after)
        return
    changes: dict[str, tuple[Any, Any]] = {}
    for column in columns:
        old, new = getattr(before, column), _now(row, column)
        if _is_secret(watched, row, column):
            if not _same_secret(old, new) and not _is_rehashed(row, column):
                changes[column] = (
                    SET if old else NOT_SET,
                    "changed" if new and old else SET if new else NOT_SET,
                )
        elif (plain_old := _plain(row, column, old)) != (plain_new := _plain(row, column, new)):
            path = next((one for one in watched.paths if one.partition(".")[0] == _shown(row, column)), "")
            changes[column] = (
                (_at(before, path), _at(row, path)) if path else (_cut(plain_old), _cut(plain_new))
            )
    if changes:
        data = {
            "before": {_shown(row, name): old for name, (old, _new) in changes.items()},
            "after": {_shown(row, name): new for name, (_old, new) in changes.items()},
        }
        _write(watched, watched.changed, row, data, data["after"])


def _now(row: models.Model, column: str) -> Any:
    value = getattr(row, column)
    if not hasattr(value, "resolve_expression"):
        return value
    # An expression such as F("count") + 1: only the database knows what came of it.
    return type(row)._base_manager.values_list(column, flat=True).get(pk=row.pk)


def _deleting(
    watched: Watched, sender: Any, instance: models.Model, origin: Any = None, **_more: Any
) -> None:
    if is_told():
        return
    columns = _columns(instance, watched, None)
    before = _values(watched, instance, columns)
    for watched_list in LISTS:
        if watched_list.model == watched.model:
            before[watched_list.field] = _members(watched_list, instance)
    data: dict[str, Any] = {"before": before}
    cause = origin.model if isinstance(origin, models.QuerySet) else type(origin)
    if origin is not None and cause is not sender:
        data["deleted_with"] = cause._meta.model_name
    _write(watched, watched.deleted, instance, data, before, going=isinstance(origin, Node) or cause is Node)


def _values(watched: Watched, row: models.Model, columns: tuple[str, ...]) -> Values:
    """What the row says, without its secrets."""
    found: Values = {}
    for column in columns:
        value = _now(row, column)
        if _is_secret(watched, row, column):
            found[_shown(row, column)] = SET if value else NOT_SET
        else:
            found[_shown(row, column)] = _cut(_plain(row, column, value))
    for path in watched.paths:
        found[path.partition(".")[0]] = _at(row, path)
    return found


def _is_secret(watched: Watched, row: models.Model, column: str) -> bool:
    """One that the table names, or that is sealed: a new one of those may be in no table yet."""
    return column in watched.secrets or isinstance(_field(row, column), SealedField)


def _field(row: models.Model, column: str) -> Any:
    """``group_id`` is the column of the field ``group``."""
    return next(field for field in row._meta.concrete_fields if field.attname == column)


def _shown(row: models.Model, column: str) -> str:
    return str(_field(row, column).name)


def _plain(row: models.Model, column: str, value: Any) -> Any:
    """A value as JSON has it, however the field was set: "5" and 5 are the same to an integer's field."""
    field = _field(row, column)
    if value is None or isinstance(value, bool | dict | list):
        return value
    value = field.to_python(value) if not field.is_relation else value
    if value is None or isinstance(value, bool | int | float | dict | list):
        return value
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def _cut(plain: Any) -> Any:
    """As much of a value as an entry shows."""
    return plain[:MOST_TEXT] if isinstance(plain, str) else plain


def _same_secret(old: Any, new: Any) -> bool:
    """Sealed ones by what is stored: encrypted anew, the same secret would look like another one."""
    stored = getattr(old, "_token", old), getattr(new, "_token", new)
    return bool(stored[0] == stored[1])


def _is_rehashed(row: models.Model, column: str) -> bool:
    """Whether Django has only hashed the same password anew, as it does at a sign-in after an update. By the
    hashes alone another password could pass for that."""
    return column == "password" and getattr(row, "checks_password", False)


def _at(row: Any, path: str) -> Any:
    for name in path.split("."):
        row = _related(row, name)
    return None if row is None else str(row)


def _related(row: Any, name: str) -> Any:
    """None for what is not there (yet): a fixture may have a row before the one that it points to."""
    try:
        return getattr(row, name, None)
    except ObjectDoesNotExist:
        return None


def _write(
    watched: Watched,
    words: Words,
    row: models.Model,
    data: Mapping[str, Any],
    fields: Mapping[str, Any],
    *,
    going: bool = False,
) -> None:
    about = (_related(row, watched.target) or row) if watched.target else row
    pk = getattr(row, f"{watched.target}_id") if watched.target else row.pk
    node: Node | None = _related(row, watched.node) if watched.node else None
    if watched.name:
        name = _at(about, watched.name) or ""
    else:
        name = node.name if node is not None else str(about)
    kind, message = words
    told = {
        "name": name,
        "fields": ", ".join(fields),
        "node": node.name if node is not None else "",
        "kind": getattr(row, watched.kind)() if watched.kind else "",
    }
    warns = watched.warns_of_removal and words is watched.deleted
    record(
        kind,
        str(message) % told,
        # Of a node that is being deleted only the name is kept: its row goes in this transaction.
        node=None if going else node,
        node_name=node.name if node is not None else "",
        node_ref=str(node.uuid) if node is not None else "",
        target=Target(watched.type, str(pk), name),
        severity=Severity.WARNING if warns else Severity.INFO,
        data=data,
        category=Category.AUDIT,
    )


def _list_changes(
    watched: WatchedList,
    sender: Any,
    instance: models.Model,
    action: str,
    reverse: bool,
    model: type[models.Model],
    pk_set: set[Any] | None,
    **_more: Any,
) -> None:
    """Compares the lists before and after; from the other side (``group.user_set``) those of all
    concerned."""
    if is_told():
        return
    key = f"_audit_{watched.field}"
    when, _, what = action.partition("_")
    if when == "pre":
        owners = [instance]
        if reverse:
            rows = (
                model._base_manager.filter(pk__in=pk_set) if what != "clear" else _owners(watched, instance)
            )
            owners = list(rows)
        instance.__dict__[key] = [(owner, _members(watched, owner)) for owner in owners]
        return
    for owner, before in instance.__dict__.pop(key, ()):
        after = _members(watched, owner)
        if before != after:
            _write_list(watched, owner, before, after)


def _member_goes(watched: WatchedList, sender: Any, instance: models.Model, **_more: Any) -> None:
    """A group that is deleted leaves its members without it, of which Django sends no other signal."""
    if is_told():
        return
    name = str(_at(instance, watched.path))
    for owner in _owners(watched, instance):
        before = _members(watched, owner)
        after = list(before)
        after.remove(name)  # one of it: permissions of two models may have the same codename
        _write_list(watched, owner, before, after)


def _owners(watched: WatchedList, member: models.Model) -> models.QuerySet[Any]:
    model = installed(watched.model)
    if model is None:
        raise LookupError(watched.model)
    return model._base_manager.filter(**{watched.field: member.pk})


def _members(watched: WatchedList, owner: models.Model) -> list[str]:
    rows = getattr(owner, watched.field).order_by(watched.path).values_list(watched.path, flat=True)
    return [str(name) for name in rows]


def _write_list(watched: WatchedList, owner: models.Model, before: list[str], after: list[str]) -> None:
    kind, message = watched.words
    name = str(owner)
    data = {
        "before": {watched.field: before[:MOST_MEMBERS]},
        "after": {watched.field: after[:MOST_MEMBERS]},
        "added": sorted((Counter(after) - Counter(before)).elements())[:MOST_MEMBERS],
        "removed": sorted((Counter(before) - Counter(after)).elements())[:MOST_MEMBERS],
    }
    target = Target(watched.type, str(owner.pk), name)
    record(kind, str(message) % {"name": name}, target=target, data=data, category=Category.AUDIT)
