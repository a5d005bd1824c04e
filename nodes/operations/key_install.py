"""The step in which a password is used once, to put nodeadmin's own key on the host, and then forgotten."""

from __future__ import annotations

from dataclasses import replace

from django.utils.translation import gettext as _

from nodes import access
from nodes.errors import AuthenticationFailed
from nodes.hosts.authorize import authorize_key, explain_refused_key
from nodes.hosts.connection import HostConnection
from nodes.models import Node, Operation
from nodes.models.credential import CredentialKind
from nodes.operations.base import Run

STEP = "install_key"
_WORKS = "key_works"


def login_of(run: Run, node: Node | None = None) -> access.Login:
    """The login that the operation tries: what it was given, or nodeadmin's own key, once an earlier run has
    seen that key open the host. What was given is forgotten by then."""
    login = access.Login.from_operation(run.operation, node)
    return _by_key(login) if run.data_of(STEP).get(_WORKS) else login


def install_own_key(run: Run, connection: HostConnection, login: access.Login) -> access.Login:
    """Install the key, prove with a fresh connection that it opens the host, and give the login to keep.

    The password is forgotten with that proof: in the database in one transaction with the step's report,
    whatever becomes of the steps that follow, and in ``connection``, whose further SSH connections are
    entered with the key.
    """
    with run.step(STEP) as step:
        by_key = _by_key(login)
        if not step.data.get(_WORKS):
            authorize_key(connection, access.own_key_pair().public_key)
        target = by_key.target()
        try:
            access.connect_once(target).close()
        except AuthenticationFailed as refused:
            raise explain_refused_key(connection, refused) from refused
        with run.fenced():
            Operation.objects.filter(pk=run.operation.pk).update(secret=None)
            step.report(_("The key opens the host; the password is not kept."), data={_WORKS: True})
        run.operation.secret = None
        connection.enter_with(target)
    return by_key


def _by_key(login: access.Login) -> access.Login:
    return replace(login, kind=CredentialKind.NODEADMIN_KEY, secret=None)
