"""How a host is entered: the part that adding a node and changing its connection have in common."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from nodes.hosts.target import HOST_KEY_TYPES
from nodes.models.credential import CredentialKind
from nodes.models.node import NodeType
from nodes.web.forms.fields import LabelsField, TypeField, control


class LoginForm(forms.Form):
    """Address, confirmed host key and credential. No widget renders a value: secrets are not shown again."""

    uri = forms.CharField(
        label=_("Address"),
        max_length=400,
        widget=control(
            placeholder="qemu+ssh://root@kvm-01.example.org/system", autocomplete="off", spellcheck="false"
        ),
    )
    fingerprint = forms.CharField(required=False, max_length=100)
    jump_host = forms.CharField(required=False, max_length=63)
    kind = forms.ChoiceField(required=False, choices=CredentialKind.choices)
    user = forms.CharField(required=False, max_length=64)
    private_key = forms.CharField(required=False, max_length=32_768, strip=False)
    passphrase = forms.CharField(required=False, max_length=1024, strip=False)
    password = forms.CharField(required=False, max_length=1024, strip=False)
    install_key = forms.BooleanField(required=False)
    sudo_password = forms.CharField(required=False, max_length=1024, strip=False)
    forget_sudo_password = forms.BooleanField(required=False)

    def credential(self) -> dict[str, Any] | None:
        """The credential in the API's form; None where none was chosen."""
        data = self.cleaned_data
        kind = data["kind"]
        if not kind:
            return None
        given: dict[str, Any] = {"kind": kind}
        if data["user"]:
            given["user"] = data["user"].strip()
        if kind == CredentialKind.SSH_KEY:
            # Browsers send CRLF; a key with it is refused by every parser.
            given["private_key"] = data["private_key"].replace("\r\n", "\n").strip() + "\n"
            if data["passphrase"]:
                given["passphrase"] = data["passphrase"]
        elif kind == CredentialKind.PASSWORD:
            given |= {"password": data["password"], "install_key": data["install_key"]}
        if data["sudo_password"]:
            given["sudo_password"] = data["sudo_password"]
        elif data["forget_sudo_password"]:
            given["sudo_password"] = ""
        return given

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        uri = data.get("uri") or ""
        if uri and not uri.lower().startswith("qemu+ssh:"):
            # An address without SSH needs no login; what was chosen before it was typed counts for nothing.
            data |= {"kind": "", "fingerprint": "", "jump_host": ""}
        # The page sends the type of the chosen key with it: "ssh-ed25519 SHA256:…".
        key_type, _blank, fingerprint = (data.get("fingerprint") or "").rpartition(" ")
        data |= {"fingerprint": fingerprint, "key_type": key_type if key_type in HOST_KEY_TYPES else ""}
        kind = data.get("kind")
        if kind == CredentialKind.SSH_KEY and not (data.get("private_key") or "").strip():
            self.add_error("private_key", _("Paste the private key."))
        if kind == CredentialKind.PASSWORD and not data.get("password"):
            self.add_error("password", _("Type the password."))
        if not (data.get("sudo_password") or "").isprintable():
            self.add_error("sudo_password", _("A password is one line."))
        return data


class AddNodeForm(LoginForm):
    name = forms.CharField(
        label=_("Name"), max_length=63, widget=control(placeholder="kvm-01", autocomplete="off")
    )
    type = TypeField(initial=NodeType.COMPUTE)
    labels = LabelsField()


class ChangeLoginForm(LoginForm):
    """The same for a node that is there: what is left empty stays as it is."""

    uri = forms.CharField(
        label=_("Address"),
        required=False,
        max_length=400,
        widget=control(autocomplete="off", spellcheck="false"),
    )
