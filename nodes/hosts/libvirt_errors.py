"""Every libvirtError becomes one of ours here.

Codes: https://libvirt.org/html/libvirt-virterror.html.
"""

from __future__ import annotations

import libvirt

from nodes.errors import HostError, InsufficientRightsOnHost, LibvirtUnavailable

JOIN_GROUP = "Add the user to the group “libvirt” on the host (usermod -aG libvirt USER), or use root."

ASKS_FOR_LOGIN = "libvirt_asks_for_login"
"""``extra["reason"]`` where libvirt itself refused the login, and neither a group nor sudo would help."""
_NO_SASL = (
    'Where auth_unix_rw is "sasl" in /etc/libvirt/libvirtd.conf (or virtqemud.conf) on the host, its socket '
    'asks for a SASL login, which nodeadmin does not have: set it to "polkit" or "none" and run systemctl '
    "restart libvirtd (or virtqemud). Else journalctl -u libvirtd (or virtqemud) names the reason."
)
_OF_POLKIT = ("polkit", "policy")

_RIGHTS = frozenset(
    {
        libvirt.VIR_ERR_AUTH_FAILED,
        libvirt.VIR_ERR_AUTH_CANCELLED,
        libvirt.VIR_ERR_AUTH_UNAVAILABLE,
        libvirt.VIR_ERR_ACCESS_DENIED,
        libvirt.VIR_ERR_OPERATION_DENIED,
    }
)
_GONE = frozenset(
    {
        libvirt.VIR_ERR_NO_CONNECT,
        libvirt.VIR_ERR_INVALID_CONN,
        libvirt.VIR_ERR_RPC,
        libvirt.VIR_ERR_GNUTLS_ERROR,
    }
)
_GONE_TEXTS = ("client socket is closed", "connection reset", "broken pipe", "keepalive")
_TRANSPORT = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE, libvirt.VIR_FROM_NONE})


class LibvirtCallFailed(HostError):
    """libvirt answered, with a refusal. ``libvirt_code`` is its number (``VIR_ERR_…``)."""

    code, http_status = "libvirt_failed", 502
    title = "libvirt refused"
    layer = "libvirt"

    def __init__(self, message: str, libvirt_code: int) -> None:
        super().__init__(message, extra={"libvirt_code": libvirt_code})
        self.libvirt_code = libvirt_code


def translate(error: libvirt.libvirtError, what: str, address: str) -> HostError:
    """Our error for libvirt's, said of ``what`` on ``address``."""
    text = readable(error)
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_AUTH_FAILED and not any(part in text.lower() for part in _OF_POLKIT):
        return InsufficientRightsOnHost(
            f"libvirt on {address} asks for a login of its own at its socket, and refused this one: {text}",
            remedy=_NO_SASL,
            extra={"reason": ASKS_FOR_LOGIN},
        )
    if code in _RIGHTS or (code == libvirt.VIR_ERR_SYSTEM_ERROR and "permission denied" in text.lower()):
        return InsufficientRightsOnHost(f"libvirt on {address} refused this user: {text}", remedy=JOIN_GROUP)
    transport = error.get_error_domain() in _TRANSPORT
    if code in _GONE or (
        (transport or code == libvirt.VIR_ERR_INTERNAL_ERROR)
        and any(part in text.lower() for part in _GONE_TEXTS)
    ):
        return LibvirtUnavailable(
            f"libvirt on {address} does not answer: {text}",
            remedy="Look at it on the host: systemctl status libvirtd (or virtqemud).",
        )
    return LibvirtCallFailed(f"{what} failed on {address}: {text}", code if code is not None else 0)


def senseless(flaw: str, address: str) -> LibvirtUnavailable:
    """Our error where what comes from libvirt's socket is no answer that a libvirt gives."""
    return LibvirtUnavailable(
        f"What answers as libvirt on {address} cannot be used: {flaw}.",
        remedy="Look on the host at what listens at its socket: ss -xlp | grep libvirt",
    )


def readable(error: libvirt.libvirtError) -> str:
    """libvirt's message on one line, bounded: it may quote what a guest's configuration says."""
    text = " ".join(str(error.get_error_message() or error)[:_READ].split())
    return "".join(c if c.isprintable() else "?" for c in text[:400])


_READ = 4000
"""Characters of a message that are looked at: an enemy's has millions."""
