"""Authentication over a verified connection: a key or a password, and a refusal that says what would help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import paramiko

from nodes.errors import AuthenticationFailed, HostTimeout, HostUnreachable
from nodes.hosts.privatekey import load_private_key
from nodes.hosts.target import HostKey, HostTarget, PasswordCredential, SshKeyCredential
from nodes.hosts.wire import Wire

DEFAULT_USER = "root"


def log_in(wire: Wire, target: HostTarget, timeout_s: float) -> None:
    """Authenticate ``target``'s user.

    Raises AuthenticationFailed with what was tried and, in ``extra["accepts"]``, what the server takes;
    HostTimeout; HostUnreachable. No error carries the credential.
    """
    user = target.user or DEFAULT_USER
    wire.auth_timeout = timeout_s
    match target.credential:
        case SshKeyCredential() as credential:
            wire.login_key = _log_in_by_key(wire, target, user, credential)
        case PasswordCredential(password):
            tried = f"the password of user “{user}”"
            _attempt(wire, target, user, "password", tried, lambda: _send_password(wire, user, password))
        case None:
            raise AuthenticationFailed(
                f"There is no credential for {target.address}.", remedy="Give a key or a password."
            )
    if wire.auth_handler is not None:
        # paramiko keeps them as long as the connection stands.
        wire.auth_handler.password = None
        wire.auth_handler.private_key = None
        wire.auth_handler.interactive_handler = None


def _log_in_by_key(wire: Wire, target: HostTarget, user: str, credential: SshKeyCredential) -> HostKey:
    """The public half of the key that the host took: the credential's own, or the first alternative."""
    others = [SshKeyCredential(text) for text in credential.alternatives]
    refused: AuthenticationFailed | None = None
    for offered in (credential, *others):
        key = load_private_key(offered)
        public = HostKey(key.get_name(), key.asbytes())
        tried = f"the key {public.fingerprint} of user “{user}”"
        try:
            _attempt(wire, target, user, "publickey", tried, partial(wire.auth_publickey, user, key))
        except AuthenticationFailed as refusal:
            if not _is_refusal(refusal):
                raise
            refused = refused or refusal
        else:
            return public
    assert refused is not None  # noqa: S101 - the loop has run, and ended by refusals alone
    raise refused


def _is_refusal(error: AuthenticationFailed) -> bool:
    """Whether another key may be taken: the server takes keys of this user, and did not take this one."""
    accepts = error.extra.get("accepts") or ("publickey",)
    return error.extra.get("method") == "publickey" and "publickey" in accepts


def _send_password(wire: Wire, user: str, password: str) -> list[str]:
    try:
        return wire.auth_password(user, password, fallback=False)
    except paramiko.BadAuthenticationType as refused:
        if "keyboard-interactive" not in refused.allowed_types:
            raise
    answered = False

    def answer(_title: str, _instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        # The password goes to the first question that does not echo its answer, and to no other.
        nonlocal answered
        answers = []
        for _prompt, echo in prompts:
            answers.append("" if echo or answered else password)
            answered = answered or not echo
        return answers

    return wire.auth_interactive(user, answer)


def _attempt(
    wire: Wire, target: HostTarget, user: str, method: str, tried: str, send: Callable[[], list[str]]
) -> None:
    try:
        further = send()
    except paramiko.BadAuthenticationType as refused:
        raise _refused(target, user, method, tried, refused.allowed_types) from None
    except paramiko.AuthenticationException as refused:
        if "timeout" in str(refused).lower():
            raise HostTimeout(
                f"{target.address} did not answer the authentication within {wire.auth_timeout:g} s.",
                extra={"reason": "silent"},
            ) from None
        raise _refused(target, user, method, tried, _accepted(wire, user)) from None
    except (paramiko.SSHException, EOFError, OSError) as lost:
        raise HostUnreachable(
            f"{target.address} closed the connection during authentication.", extra={"reason": "closed"}
        ) from lost
    if further:
        raise AuthenticationFailed(
            f"{target.address} accepted {tried}, but asks for a second factor ({', '.join(further)}).",
            remedy="Use a user whose key or password alone is enough.",
            extra={"user": user, "method": method, "accepts": further},
        )


def _accepted(wire: Wire, user: str) -> Sequence[str]:
    """What the server takes from this user: asked only after a refusal, as it costs a round trip."""
    try:
        wire.auth_none(user)
    except paramiko.BadAuthenticationType as answer:
        return answer.allowed_types
    except (paramiko.SSHException, EOFError, OSError):
        pass
    return ()


def _refused(
    target: HostTarget, user: str, method: str, tried: str, accepts: Sequence[str]
) -> AuthenticationFailed:
    takes = f" It accepts: {', '.join(accepts)}." if accepts else ""
    wanted = {"password", "keyboard-interactive"} if method == "password" else {"publickey"}
    if accepts and not wanted & set(accepts):
        option = "PasswordAuthentication" if method == "password" else "PubkeyAuthentication"
        remedy = (
            f"The host does not take a {'password' if method == 'password' else 'key'} from this user "
            f"({option} in its /etc/ssh/sshd_config)."
        )
    elif method == "password":
        remedy = (
            f"Check the user and the password. If they are right, look on the host, as root: {_let_in(user)} "
            f"{WHY_REFUSED}"
        )
    else:
        remedy = (
            f"Look on the host, as root: the public key has to be in ~{user}/.ssh/authorized_keys. "
            f"{key_conditions(user)}"
        )
    return AuthenticationFailed(
        f"{target.address} refused {tried}.{takes}",
        remedy=remedy,
        field="credential",
        extra={"user": user, "method": method, "accepts": list(accepts)},
    )


WHY_REFUSED = "“journalctl -u ssh -u sshd -n 20” names the reason."


def key_conditions(user: str) -> str:
    """What sshd asks besides the key itself, each with how to see it (sshd_config(5), sshd(8))."""
    return (
        f"sshd has to look there (sshd -T -C user={user} | grep -i authorizedkeysfile shows where it does). "
        f"Nobody but {user} may write to the home directory, .ssh and that file (StrictModes: chmod go-w). "
        f"{_let_in(user)} {WHY_REFUSED}"
    )


def _let_in(user: str) -> str:
    root = "sshd has to let root in (PermitRootLogin, AllowUsers, DenyUsers, AllowGroups)."
    other = f"sshd has to let {user} in (AllowUsers, DenyUsers, AllowGroups, DenyGroups)."
    return (
        f"{root if user == 'root' else other} The account may be locked or expired (passwd -S {user}; "
        f"chage -l {user})."
    )
