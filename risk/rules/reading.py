"""How the rules read their inputs: nothing is taken on trust, what cannot be read denies."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from market.contracts import Quote, SymbolFilters
from proposals.contracts import QuantisedOrder, Side
from risk.contracts import GateInput, Limits, RuleVerdict
from tradingbot.core.decimals import ZERO, plain

# NUMERIC(38, 16), in which amounts are stored, holds 22 digits before the point and 16 after it.
INTEGER_DIGITS_MAX = 22
FRACTION_DIGITS_MAX = 16
SHOWN_PLACES = Decimal("0.0001")


class Unreadable(Exception):
    """An input is missing or is not what it should be; the text says which, for a person."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found: `observed` and `limit` as plain text, `reason` in words for a person."""

    verdict: RuleVerdict
    observed: str
    limit: str
    reason: str


def finding(passes: bool, *, observed: str, limit: str, good: str, bad: str) -> Finding:
    """A pass with the words `good`, or a denial with the words `bad`."""
    verdict = RuleVerdict.PASS if passes else RuleVerdict.DENY
    return Finding(verdict=verdict, observed=observed, limit=limit, reason=good if passes else bad)


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the gate: its input, and the order to judge or why there is none."""

    gate: GateInput
    formed: QuantisedOrder | None
    problem: str = ""

    @property
    def order(self) -> QuantisedOrder:
        """The order to judge; raises Unreadable when none could be formed."""
        if self.formed is None:
            raise Unreadable(f"there is no order to judge: {self.problem}")
        return self.formed

    @property
    def is_exit(self) -> bool:
        """Whether this sells what is held, which rules about opening do not concern."""
        return (self.formed.side if self.formed else self.gate.action) == Side.SELL

    @property
    def limits(self) -> Limits:
        """The limits in force; raises Unreadable when there are none."""
        if self.gate.limits is None:
            raise Unreadable("no limits are on record")
        return self.gate.limits

    @property
    def quote(self) -> Quote:
        """The symbol's own quote, sane; raises Unreadable otherwise."""
        return quote_of(self.gate)

    @property
    def filters(self) -> SymbolFilters:
        """The symbol's own filters; raises Unreadable otherwise."""
        return filters_of(self.gate)


def quote_of(gate: GateInput) -> Quote:
    """The quote of the proposal's symbol with a price on both sides, not crossed; raises Unreadable."""
    quote = gate.quote
    if quote is None:
        raise Unreadable(f"there is no quote of {gate.symbol}")
    if quote.symbol != gate.symbol:
        raise Unreadable(f"the quote is of {quote.symbol}, not of {gate.symbol}")
    if positive(quote.bid, "the bid") > positive(quote.ask, "the ask"):
        raise Unreadable(f"the quote is crossed: bid {plain(quote.bid)} above ask {plain(quote.ask)}")
    return quote


def filters_of(gate: GateInput) -> SymbolFilters:
    """The exchange's filters of the proposal's symbol; raises Unreadable."""
    if gate.filters is None:
        raise Unreadable(f"the exchange's filters of {gate.symbol} were never read")
    if gate.filters.symbol != gate.symbol:
        raise Unreadable(f"the filters are of {gate.filters.symbol}, not of {gate.symbol}")
    return gate.filters


def number(value: object, what: str) -> Decimal:
    """`value` as a finite Decimal that the database can hold; raises Unreadable, naming `what`."""
    if value is None:
        raise Unreadable(f"{what} is not known")
    if not isinstance(value, Decimal):
        raise Unreadable(f"{what} is not a decimal number")
    if not value.is_finite():
        raise Unreadable(f"{what} is {value}, not a number")
    exponent = value.as_tuple().exponent
    if value.adjusted() >= INTEGER_DIGITS_MAX or (
        isinstance(exponent, int) and -exponent > 3 * FRACTION_DIGITS_MAX
    ):
        raise Unreadable(f"{what} is out of any range")
    return value


def positive(value: object, what: str) -> Decimal:
    """`number`, above zero."""
    found = number(value, what)
    if found <= 0:
        raise Unreadable(f"{what} is {plain(found)}, it must be above 0")
    return found


def not_negative(value: object, what: str) -> Decimal:
    """`number`, zero or above."""
    found = number(value, what)
    if found < 0:
        raise Unreadable(f"{what} is {plain(found)}, it must not be below 0")
    return found


def whole(value: object, what: str) -> int:
    """`value` as int; raises Unreadable, naming `what`."""
    if value is None:
        raise Unreadable(f"{what} is not known")
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unreadable(f"{what} is not a whole number")
    return value


def count(value: object, what: str) -> int:
    """`whole`, zero or above."""
    found = whole(value, what)
    if found < 0:
        raise Unreadable(f"{what} is {found}, it must not be below 0")
    return found


def total(amounts: dict[str, Decimal], what: str) -> Decimal:
    """Sum of amounts that are all readable and not negative."""
    return sum((not_negative(amount, f"{what} of {name}") for name, amount in amounts.items()), ZERO)


def shown(value: Decimal) -> str:
    """`value` for a person: at most 4 places, rounded up so that an excess is never shown as equal."""
    return plain(value.quantize(SHOWN_PLACES, rounding=ROUND_CEILING))
