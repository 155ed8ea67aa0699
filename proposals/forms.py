"""Forms of proposals."""

from django import forms

from tradingbot.core.form_fields import PlainIntegerField

# The token holds the name: 150 letters of up to 12 characters in JSON, and that in base64.
SHOWN_TOKEN_LENGTH_MAX = 3000
WHAT_WAS_SHOWN = ("version", "digest", "shown")

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


class DecisionForm(forms.Form):
    """A decision names what was on the screen: version and digest of the order, and the token of the showing."""

    version = PlainIntegerField(min_value=1)
    digest = forms.RegexField(r"^[0-9a-f]{64}$")
    shown = forms.CharField(max_length=SHOWN_TOKEN_LENGTH_MAX)

    @property
    def says_what_was_shown(self) -> bool:
        """Whether what is wrong with the form, if anything, is what the person entered."""
        return not any(name in self.errors for name in WHAT_WAS_SHOWN)


class RejectForm(DecisionForm):
    """A rejection: a reason of the list, and a note if there is more to say."""

    choice = forms.ChoiceField(choices=REJECT_REASONS)
    note = forms.CharField(max_length=240, required=False)

    @property
    def reason(self) -> str:
        """Both in one line."""
        note = " ".join(self.cleaned_data["note"].split())
        return f"{self.cleaned_data['choice']}: {note}" if note else self.cleaned_data["choice"]
