"""Signing in, passwords and second factors: allauth's forms in our dress, with codes that count once for all
processes of the server."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import ChangePasswordForm as AllauthChangePasswordForm
from allauth.account.forms import LoginForm
from allauth.account.forms import ReauthenticateForm as AllauthReauthenticateForm
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm, EditWebAuthnForm
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from nodes.errors import RateLimited
from nodes.second_factor import verify_code


class Dressed:
    """Labels and widgets as on our other pages; allauth's placeholders repeat the label."""

    fields: dict[str, forms.Field]
    words: dict[str, Any] = {}

    def dress(self) -> None:
        for name, field in self.fields.items():
            kind = "form-check-input" if isinstance(field.widget, forms.CheckboxInput) else "form-control"
            field.widget.attrs["class"] = kind
            field.widget.attrs.pop("placeholder", None)
            field.label = self.words.get(name, field.label)


CODE = {"code": gettext_lazy("Code")}


class SignInForm(Dressed, LoginForm):
    """The name's field is ``username``, as everywhere in Django."""

    words = {"login": gettext_lazy("Username"), "password": gettext_lazy("Password")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()
        self.fields["login"].widget.attrs |= {"autofocus": True, "autocapitalize": "none"}
        self.fields["password"].help_text = ""

    def add_prefix(self, field_name: str) -> str:
        return super().add_prefix("username" if field_name == "login" else field_name)


class PasswordForm(Dressed, AllauthChangePasswordForm):
    words = {
        "oldpassword": gettext_lazy("Current password"),
        "password1": gettext_lazy("New password"),
        "password2": gettext_lazy("New password again"),
    }
    end_tokens = forms.BooleanField(
        required=False,
        label=gettext_lazy("Revoke my API tokens as well"),
        help_text=gettext_lazy("Programs that use them can no longer sign in."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()
        self.fields["oldpassword"].help_text = ""


class PasswordAgainForm(Dressed, AllauthReauthenticateForm):
    words = {"password": gettext_lazy("Password")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()
        self.fields["password"].help_text = ""
        self.fields["password"].widget.attrs |= {"autofocus": True}


class _CountsOnce(Dressed):
    """A code that was used is refused by every process, not only by the one that saw it."""

    words = CODE
    user: Any
    cleaned_data: dict[str, Any]

    def _verified(self) -> Authenticator:
        try:
            found = verify_code(self.user, self.cleaned_data["code"])
        except RateLimited as error:
            raise ValidationError(error.detail()) from None
        if found is None:
            self._tell_failure()
            raise ValidationError(_("The code is wrong or already used. Enter the next one."))
        found.user = self.user
        return found

    def _tell_failure(self) -> None:
        first = Authenticator.objects.filter(user=self.user).order_by("-type").first()
        if first is not None:
            self._emit_authentication_failed(first)  # type: ignore[attr-defined]


class CodeForm(_CountsOnce, AuthenticateForm):
    """At a sign-in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()
        self.fields["code"].widget.attrs |= {"autofocus": True, "inputmode": "numeric"}

    def clean_code(self) -> str:
        self.authenticator = self._verified()
        return str(self.cleaned_data["code"])


class CodeAgainForm(_CountsOnce, ReauthenticateForm):
    """Before a change of the account."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()
        self.fields["code"].widget.attrs |= {"autofocus": True, "inputmode": "numeric"}

    def clean_code(self) -> str:
        self.authenticator = self._verified()
        return str(self.cleaned_data["code"])


class AppForm(Dressed, ActivateTOTPForm):
    words = {"code": gettext_lazy("Code that the app shows")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()
        self.fields["code"].widget.attrs |= {"inputmode": "numeric", "autofocus": True}

    def clean_code(self) -> str:
        try:
            return str(super().clean_code())
        except ValidationError:
            raise ValidationError(
                _("The code is wrong. Check the clock of the device that shows it, and enter the next one.")
            ) from None


class PasskeyForm(Dressed, AddWebAuthnForm):
    """Each is a passkey: it can sign in by itself, and asks for its PIN or a finger."""

    words = {"name": gettext_lazy("Name")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()
        name = self.fields["name"]
        name.widget.attrs |= {"maxlength": 60, "autocomplete": "off"}
        if isinstance(name, forms.CharField):
            name.max_length = 60
        self.fields["passwordless"].label = gettext_lazy("Sign in with it alone, without name and password")
        self.fields["passwordless"].help_text = gettext_lazy("It then asks for its PIN or a fingerprint.")
        self.fields["passwordless"].initial = True

    def clean_name(self) -> str:
        return str(super().clean_name())[:60]


class RenamePasskeyForm(Dressed, EditWebAuthnForm):
    words = {"name": gettext_lazy("Name")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()
        self.fields["name"].widget.attrs |= {"maxlength": 60}

    def clean_name(self) -> str:
        return str(self.cleaned_data["name"])[:60]
