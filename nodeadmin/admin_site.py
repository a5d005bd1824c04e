"""The Django admin under nodeadmin's own name."""

from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.utils.translation import gettext_lazy as _


class NodeadminAdminConfig(AdminConfig):
    default_site = "nodeadmin.admin_site.NodeadminAdminSite"


class NodeadminAdminSite(AdminSite):
    site_header = _("nodeadmin administration")
    site_title = _("nodeadmin")
    index_title = _("Records")
