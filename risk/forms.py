"""Forms of risk."""

from django import forms


class HaltForm(forms.Form):
    """A halt needs no reason; one may be given."""

    reason = forms.CharField(max_length=200, required=False)
