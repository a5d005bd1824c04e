"""The step in which a password is used once, to put nodeadmin's own key on the host, and then forgotten."""

from __future__ import annotations

from dataclasses import replace

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import AuthenticationFailed
from nodes.hosts.authorize import authorize_key, explain_refused_key
from nodes.hosts.connection import HostConnection
from nodes.models.credential import CredentialKind
from nodes.operations.base import Run


def install_own_key(run: Run, connection: HostConnection, login: access.Login) -> access.Login:
    """Install the key, prove with a fresh connection that it opens the host, and give the login to keep."""
    with run.step("install_key") as step:
        authorize_key(connection, access.own_key_pair().public_key)
        by_key = replace(login, kind=CredentialKind.NODEADMIN_KEY, secret=None)
        try:
            access.connect_once(by_key.target()).close()
        except AuthenticationFailed as refused:
            raise explain_refused_key(connection, refused) from refused
        step.report(_("The key opens the host; the password is not kept."))
    return by_key
