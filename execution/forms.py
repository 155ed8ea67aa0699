"""Forms of execution."""

from django import forms


class ApproveForm(forms.Form):
    """An approval names what was on the screen: the version and the digest of the order."""

    version = forms.IntegerField(min_value=1)
    digest = forms.RegexField(r"^[0-9a-f]{64}$")
