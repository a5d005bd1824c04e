"""The account of a person or a program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _

from nodes.models.token_limits import TokenLimits


class User(AbstractUser):
    """Django's user under our own table, so that it can grow without a swap of the user model.

    Who came with an API token carries its limits (``token_limits``). Such a user is no superuser and no
    staff, and has no permission that Django knows of, whoever asks: nodes/permissions.py alone says what is
    left to them, so that a question asked elsewhere is answered with no.
    """

    token_limits: TokenLimits | None = None
    superuser_by_account = False
    """Whether the account of a user with limits is a superuser's."""
    checks_password = False
    """Whether a password is being checked: what is then saved is the same one, hashed anew."""

    class Meta(AbstractUser.Meta):
        verbose_name = _("user")  # type: ignore[assignment]
        verbose_name_plural = _("users")  # type: ignore[assignment]

    def limit_to(self, limits: TokenLimits) -> None:
        """Take from this instance, for good, what the token does not give. Nothing is stored."""
        if self.token_limits is not None:
            raise TypeError("this user has a token's limits already")
        self.superuser_by_account = self.is_superuser
        self.token_limits = limits
        self.is_superuser = self.is_staff = False

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Any, Any] | None = None,
    ) -> None:
        super().refresh_from_db(using, fields, from_queryset)
        if self.token_limits is None:
            return
        if fields is None or "is_superuser" in fields:
            self.superuser_by_account = self.is_superuser
        self.is_superuser = self.is_staff = False

    def save(self, *args: Any, **options: Any) -> None:
        if self.token_limits is not None:
            raise TypeError("a user with a token's limits is not what the account is, and cannot be saved")
        super().save(*args, **options)

    def check_password(self, raw_password: str | None) -> bool:
        self.checks_password = True
        try:
            return super().check_password(raw_password)
        finally:
            self.checks_password = False

    async def acheck_password(self, raw_password: str | None) -> bool:
        self.checks_password = True
        try:
            return await super().acheck_password(raw_password)
        finally:
            self.checks_password = False

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return self.token_limits is None and super().has_perm(perm, obj)

    def has_perms(self, perm_list: Iterable[str], obj: Any = None) -> bool:
        return self.token_limits is None and super().has_perms(perm_list, obj)

    def has_module_perms(self, app_label: str) -> bool:
        return self.token_limits is None and super().has_module_perms(app_label)

    def get_all_permissions(self, obj: models.Model | None = None) -> set[str]:
        return set() if self.token_limits is not None else super().get_all_permissions(obj)
