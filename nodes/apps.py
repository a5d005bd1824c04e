"""The app. Nothing runs at import: engine and monitor start with the ASGI lifespan (nodeadmin/asgi.py)."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class NodesConfig(AppConfig):
    name = "nodes"
    verbose_name = _("Nodes")

    def ready(self) -> None:
        """Register the system checks and what writes the audit log; hear of logins."""
        from nodes import checks, permissions  # noqa: F401
        from nodes.audit import command_line, requests, sealer, sign_ins, watch
        from nodes.web.accounts import receivers

        sealer.install()
        watch.install()
        sign_ins.install()
        permissions.on_denied(requests.note_denial)
        command_line.install()
        receivers.connect()
