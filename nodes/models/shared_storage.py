"""Storage of which an administrator says that several hosts have the same."""

from __future__ import annotations

import posixpath
import re

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

_GROUP = re.compile(r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,126}\Z")
"""What lvm(8) allows as the name of a volume group."""
_EVERYTHING = ("/", "/dev", "/dev/mapper", "/dev/disk")
LONGEST_NAME = 1024


class StorageKind(models.TextChoices):
    """What is declared."""

    POOL = "pool", gettext_lazy("Storage pool")
    PATH = "path", gettext_lazy("Path and all below it")
    VOLUME_GROUP = "volume_group", gettext_lazy("LVM volume group")


class DeclaredSharedStorage(models.Model):
    """One declaration: pool, path or volume group ``name`` is the same storage on all of ``nodes``.

    It decides where nodeadmin moves VMs with their disks, so it takes more than the right to change a node:
    the model's own permissions, which count for all nodes. ``declared_by_name`` outlives the user.
    """

    kind = models.CharField(gettext_lazy("kind"), max_length=16, choices=StorageKind)
    name = models.CharField(
        gettext_lazy("name"),
        max_length=LONGEST_NAME,
        help_text=gettext_lazy("The pool's name, an absolute path, or the volume group's name."),
    )
    nodes = models.ManyToManyField(
        "nodes.Node", related_name="declared_storage", verbose_name=gettext_lazy("nodes")
    )
    comment = models.CharField(gettext_lazy("comment"), max_length=500, blank=True)
    declared_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
        verbose_name=gettext_lazy("declared by"),
    )
    declared_by_name = models.CharField(
        gettext_lazy("declared by"), max_length=150, blank=True, editable=False
    )
    created_at = models.DateTimeField(gettext_lazy("declared"), auto_now_add=True)

    class Meta:
        verbose_name = gettext_lazy("declared shared storage")
        verbose_name_plural = gettext_lazy("declared shared storage")
        ordering = ["kind", "name", "pk"]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def checked_storage_name(kind: str, name: str) -> str:
    """The name as it is stored; raises ValidationError for one that names nothing of that kind.

    A path is absolute, without ``..`` and doubled slashes, and not so short that it covers every disk.
    """
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValidationError(_("A name has printable characters, at most %d of them.") % LONGEST_NAME)
    if kind == StorageKind.PATH:
        return _checked_path(name)
    if kind == StorageKind.VOLUME_GROUP and (not _GROUP.match(name) or name in (".", "..")):
        raise ValidationError(_("“%s” cannot be the name of a volume group.") % name)
    if not name.strip() or "/" in name:
        raise ValidationError(_("“%s” cannot be the name of a storage pool.") % name)
    return name


def _checked_path(name: str) -> str:
    path = name.rstrip("/") or "/"
    if not path.startswith("/") or path != posixpath.normpath(path) or path.startswith("//"):
        raise ValidationError(
            _("A path is absolute, and has no “.”, “..” or doubled slash in it, like /srv/images.")
        )
    if path in _EVERYTHING:
        raise ValidationError(_("“%s” covers every disk of a host. Name a directory or a device.") % path)
    return path
