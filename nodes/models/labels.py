"""What labels may be: the one rule for API, pages, the admin and what is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

LABEL_KEY = r"^[a-z0-9]([a-z0-9./-]{0,61}[a-z0-9])?\Z"
MOST_LABELS = 32
LONGEST_VALUE = 128


def check_labels(labels: Any) -> None:
    """Raise ValidationError for what is no object of texts, or has a name or a value that no filter could
    name and no form could show (labels are written ``rack=a1, zone=north`` there)."""
    if not isinstance(labels, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in labels.items()
    ):
        raise ValidationError(_('Labels are a JSON object of texts, like {"rack": "a1"}.'))
    if len(labels) > MOST_LABELS:
        raise ValidationError(_("At most %d labels.") % MOST_LABELS)
    for key, value in labels.items():
        if re.match(LABEL_KEY, key) is None:
            raise ValidationError(
                _(
                    "“%s” names no label: use 1 to 63 lower-case letters, digits, dots, slashes and hyphens, "
                    "with a letter or digit at both ends."
                )
                % key[:80]
            )
        if len(value) > LONGEST_VALUE or not value.isprintable() or "," in value:
            raise ValidationError(
                _("The value of “%(key)s” has to be of at most %(most)d printable characters, and no comma.")
                % {"key": key, "most": LONGEST_VALUE}
            )
