"""Forms of proposals."""

from django import forms

from tradingbot.core.form_fields import PlainIntegerField

REJECT_REASONS = (
    ("not convinced", "Not convinced"),
    ("price moved", "Price moved"),
    ("too large", "Too large"),
    ("bad moment", "Bad moment"),
)


class AskForm(forms.Form):
    """A question out of turn: `<strategy's number>:<symbol>` of the list."""

    what = forms.RegexField(regex=r"^[0-9]{1,9}:[A-Z0-9]{2,20}$")

    @property
    def strategy_id(self) -> int:
        """The strategy that is asked."""
        return int(self.cleaned_data["what"].partition(":")[0])

    @property
    def symbol(self) -> str:
        """What it is asked about."""
        return str(self.cleaned_data["what"].partition(":")[2])


class RejectForm(forms.Form):
    """A rejection: the version that was on the screen, a reason of the list and a note if there is more to say."""

    version = PlainIntegerField(min_value=1)
    choice = forms.ChoiceField(choices=REJECT_REASONS)
    note = forms.CharField(max_length=240, required=False)

    @property
    def reason(self) -> str:
        """Both in one line."""
        note = " ".join(self.cleaned_data["note"].split())
        return f"{self.cleaned_data['choice']}: {note}" if note else self.cleaned_data["choice"]
