"""Users that an identity provider knows: created, and kept in the groups that it names."""

from __future__ import annotations

from collections.abc import Set
from itertools import count

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from nodes.events import Actor, LoginsEnded, publish, record, target_of, told
from nodes.models import User

MOST_NAMES = 1000


def create_user(actor: Actor, user: User, name: str) -> User:
    """Save a new user under ``name``, or under it with a number: who has the name keeps it."""
    for number in count(1):
        user.username = name if number == 1 else f"{name}-{number}"
        if User.objects.filter(username__iexact=user.username).exists() and number < MOST_NAMES:
            continue
        try:
            with transaction.atomic(), told():  # below
                user.set_unusable_password()
                user.save(force_insert=True)
                break
        except IntegrityError:
            if number >= MOST_NAMES:
                raise
    text = _("%s was created at the first sign-in by the identity provider") % user.username
    record(
        "user_created",
        text,
        actor=actor,
        target=target_of(user),
        data={"after": {"username": user.username}, "asked_name": name},
    )
    return user


def synchronise_groups(actor: Actor, user: User, wanted: Set[str], managed: Set[str]) -> None:
    """Put the user into the groups ``wanted`` and out of the other ``managed`` ones. Groups that are not
    managed stay as they are; one that does not exist yet is made, without any right."""
    with transaction.atomic():
        before = set(user.groups.filter(name__in=managed).values_list("name", flat=True))
        if before == set(wanted):
            return
        gained = [Group.objects.get_or_create(name=name)[0] for name in sorted(wanted - before)]
        all_before = _groups_of(user)
        with told():  # below
            user.groups.add(*gained)
            user.groups.remove(*Group.objects.filter(name__in=before - wanted))
        record(
            "user_groups_changed",
            _("The groups of %s were changed by the identity provider") % user.get_username(),
            actor=actor,
            target=target_of(user),
            data={"before": {"groups": all_before}, "after": {"groups": _groups_of(user)}},
        )
        publish(LoginsEnded(user.pk))


def _groups_of(user: User) -> list[str]:
    return list(user.groups.order_by("name").values_list("name", flat=True))
