"""Seal every stored secret anew under the first of NODEADMIN_SEAL_KEYS."""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator
from allauth.mfa.utils import decrypt, encrypt
from django.core.management.base import BaseCommand, CommandError
from django.db import models, transaction

from nodes.errors import CredentialUnreadable
from nodes.events import record, told
from nodes.models import Bmc, Credential, JumpHost, Operation, OwnKeyPair
from nodes.models.event import Category
from nodes.models.sealed import SealedField


class Command(BaseCommand):
    help = (
        "Seal all stored secrets under the first of NODEADMIN_SEAL_KEYS. Put the new key first, keep the old "
        "one behind it, run this, and then take the old one out."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        holders: tuple[type[models.Model], ...] = (Credential, Bmc, JumpHost, OwnKeyPair, Operation)
        try:
            with transaction.atomic():
                with told():  # below: no secret has changed
                    total = sum(self._seal_again(model) for model in holders) + self._seal_factors()
                words = "Stored secrets encrypted again under the first key: %d."
                record("secrets_reencrypted", words % total, category=Category.AUDIT, data={"count": total})
        except CredentialUnreadable as error:
            raise CommandError(
                f"{error.message} Put the old key behind the new one. Nothing was changed."
            ) from None
        self.stdout.write(self.style.SUCCESS(f"{total} secrets sealed under the first key."))

    def _seal_factors(self) -> int:
        """Secrets of second factors stand in allauth's rows, each under a name of its own."""
        rows = Authenticator.objects.select_for_update().exclude(type=Authenticator.Type.WEBAUTHN)
        count = 0
        for row in rows:
            held = {name: text for name, text in row.data.items() if name in ("secret", "seed")}
            row.data |= {name: encrypt(decrypt(text)) for name, text in held.items()}
            row.save(update_fields=["data"])
            count += len(held)
        return count

    def _seal_again(self, model: type[models.Model]) -> int:
        total = 0
        for field in (field.name for field in model._meta.fields if isinstance(field, SealedField)):
            rows = model._default_manager.select_for_update().exclude(**{field: None})
            for row in rows:
                row.save(update_fields=[field])
            total += len(rows)
        return total
