"""Object permissions of nodes, in tables with real foreign keys.

guardian's generic tables keep rows of deleted objects and compare ids as text; these do neither.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase


class NodeUserObjectPermission(UserObjectPermissionBase):
    content_object = models.ForeignKey("nodes.Node", models.CASCADE)

    class Meta(UserObjectPermissionBase.Meta):
        verbose_name = _("user's permission on a node")
        verbose_name_plural = _("users' permissions on nodes")


class NodeGroupObjectPermission(GroupObjectPermissionBase):
    content_object = models.ForeignKey("nodes.Node", models.CASCADE)

    class Meta(GroupObjectPermissionBase.Meta):
        verbose_name = _("group's permission on a node")
        verbose_name_plural = _("groups' permissions on nodes")
