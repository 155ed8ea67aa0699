"""Forms of the alerts: channels in the back office, silences and devices on their page."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget

from tradingbot.core.models import AlertChannel
from tradingbot.operations import channels

ADDRESS_LENGTH_MAX = 1000
SILENCE_HOURS = (1, 4, 12, 24)


class ChannelForm(forms.ModelForm):
    """A channel. Its address is taken and never given back."""

    address = forms.CharField(
        required=False,
        max_length=ADDRESS_LENGTH_MAX,
        # A password input is never filled in again, neither by us nor after a refused form.
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField"}, render_value=False),
        help_text="As Apprise writes it, for example mailto://user:password@example.com or "
        "ntfys://topic. It is kept in a file of its own and not shown again; blank keeps the one there is.",
    )

    class Meta:
        model = AlertChannel
        fields = ("name", "severity_min", "is_backup", "enabled")
        widgets = {"name": AdminTextInputWidget}

    def clean_address(self) -> str:
        """An address that Apprise knows the service of; a new channel needs one."""
        address: str = self.cleaned_data["address"].strip()
        if not address:
            if self.instance.pk is None:
                raise forms.ValidationError("Enter the address of the service.")
            return ""
        try:
            channels.check_address(address)
        except channels.ChannelRefused as error:
            raise forms.ValidationError(str(error)) from error
        return address


class SilenceForm(forms.Form):
    """What is silenced is the alert that was on the page: all of its kind, or its subject alone."""

    covers = forms.ChoiceField(choices=[("kind", "all of this kind"), ("subject", "this one")])
    hours = forms.TypedChoiceField(choices=[(h, f"{h} h") for h in SILENCE_HOURS], coerce=int)
    reason = forms.CharField(max_length=200)

    def lasts(self) -> timedelta:
        """For how long."""
        return timedelta(hours=self.cleaned_data["hours"])


class DeviceForm(forms.Form):
    """A browser's subscription, as it came from the browser, and what its person calls it."""

    subscription = forms.CharField(max_length=3000)
    name = forms.CharField(max_length=20, required=False)

    def clean_name(self) -> Any:
        """Printable only."""
        name: str = self.cleaned_data["name"]
        return "".join(letter for letter in name if letter.isprintable())
