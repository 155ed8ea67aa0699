"""Positions, equity, and how much of each limit is used."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from execution import selectors
from execution.contracts import RequestKind
from execution.models import OperatorRequest, Position
from execution.selectors import protection
from risk import selectors as risk
from risk.contracts import Limits, LimitsMissing, Portfolio
from tradingbot.core import clock
from tradingbot.core.decimals import ZERO, plain
from tradingbot.core.panels import panel
from tradingbot.core.permissions import Deed, may

POSITIONS_SHOWN = 50
CLOSE_IS_NEWS = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Held:
    """A position with its mark (the bid); None is unknown."""

    position: Position
    average: Decimal | None
    mark: Decimal | None
    worth: Decimal | None
    unrealised: Decimal | None
    residue: bool
    guards: list[protection.Guard]
    exposed: Decimal
    closing: OperatorRequest | None

    @property
    def protected(self) -> bool:
        """Whether stops on the exchange cover all of it that could be sold at all."""
        return bool(self.guards) and not self.exposed


@panel(
    "positions",
    template="execution/position_list.html",
    topics={"position", "quote", "order", "control", "feed"},
)
def positions(user: Any, argument: str) -> dict[str, Any]:
    """What is held, and what was earned on what was closed."""
    rows = list(
        Position.objects.filter(environment=selectors.ENVIRONMENT).order_by("symbol")[:POSITIONS_SHOWN]
    )
    quotes = selectors.quotes_of(row.symbol for row in rows if row.quantity)
    held = [_held(row, quotes.get(row.symbol)) for row in rows if row.quantity]
    known = [row.unrealised for row in held if row.unrealised is not None]
    armed, reasons = risk.trading_armed(clock.now(), leaving=True)
    return {
        "held": held,
        "closed": [row for row in rows if not row.quantity],
        "may": may(user, Deed.OPERATE),
        "off": [] if armed else list(reasons),
        "realised": sum((row.realised_pnl_quote for row in rows), ZERO),
        "fees": sum((row.fees_quote for row in rows), ZERO),
        "unrealised": sum(known, ZERO) if len(known) == len(held) else None,
    }


def _held(row: Position, quote: Any) -> Held:
    live = [guard for guard in protection.guards(row.symbol) if guard.is_live]
    mark = quote.bid if quote else None
    worth = row.quantity * mark if mark is not None else None
    return Held(
        position=row,
        average=row.cost_quote / row.quantity,
        mark=mark,
        worth=worth,
        unrealised=worth - row.cost_quote if worth is not None else None,
        residue=selectors.is_residue(row, quote),
        guards=live,
        exposed=protection.cover(row, live).exposed,
        closing=_last_close(row.symbol),
    )


def _last_close(symbol: str) -> OperatorRequest | None:
    """The close of the position that a person asked for last, while it is news."""
    found = OperatorRequest.objects.filter(
        environment=selectors.ENVIRONMENT,
        kind=RequestKind.CLOSE_POSITION,
        order__symbol=symbol,
        asked_at__gt=clock.now() - CLOSE_IS_NEWS,
    )
    return found.order_by("-id").first()


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a limit is used; `used` None is unknown."""

    name: str
    used: Decimal | None
    limit: Decimal
    unit: str

    @property
    def share(self) -> str:
        """Percent of the limit, for the bar."""
        if self.used is None:
            return ""
        return plain(min(self.used * 100 / self.limit, Decimal(100)).quantize(ZERO)) if self.limit else "100"

    @property
    def level(self) -> str:
        """The tone of the bar: amber from 80 percent, red from 100."""
        if self.used is None:
            return "idle"
        return "bad" if self.used >= self.limit else "warn" if self.used * 100 >= self.limit * 80 else "good"


@panel(
    "account",
    template="execution/account.html",
    topics={"balance", "position", "order", "quote", "limits", "proposal"},
)
def account(user: Any, argument: str) -> dict[str, Any]:
    """Equity, result of the day, and how much of each limit is used."""
    books, limits = selectors.portfolio(now=clock.now()), limits_in_force()
    return {
        "books": books,
        "day": books.result_today_quote,
        "held_count": len(books.holdings),
        "limits": limits,
        "uses": _uses(books, limits) if limits else [],
    }


def _uses(books: Portfolio, limits: Limits) -> list[Use]:
    gross, largest = _exposure_pct(books)
    equity_share = "% of equity"
    return [
        Use("Exposure, all symbols", gross, limits.gross_exposure_max_pct, equity_share),
        Use("Exposure, largest symbol", largest, limits.symbol_exposure_max_pct, equity_share),
        Use("Loss today", _loss_today_pct(books), limits.daily_loss_max_pct, equity_share),
        _count("Open positions", len(books.holdings), limits.open_positions_max),
        _count("Open orders", books.open_order_count, limits.open_orders_max),
        _count("Orders in the last minute", books.orders_last_minute, limits.orders_per_minute_max),
        _count("Orders in the last hour", books.orders_last_hour, limits.orders_per_hour_max),
    ]


def _count(name: str, used: int, limit: int) -> Use:
    return Use(name, Decimal(used), Decimal(limit), "")


def _exposure_pct(books: Portfolio) -> tuple[Decimal | None, Decimal | None]:
    """All symbols and the largest, reservations at their worst; None while equity or a price is unknown."""
    if not books.equity_quote:
        return None, None
    shares = []
    for symbol in {*books.holdings, *books.reserved_quote}:
        holding = books.holdings.get(symbol)
        held = holding.exposure_quote if holding else ZERO
        if held is None:
            return None, None
        shares.append((held + books.reserved_quote.get(symbol, ZERO)) * 100 / books.equity_quote)
    return sum(shares, ZERO), max(shares, default=ZERO)


def _loss_today_pct(books: Portfolio) -> Decimal | None:
    result = books.result_today_quote
    if result is None or not books.equity_quote:
        return None
    return max(ZERO, -result) * 100 / books.equity_quote


def limits_in_force() -> Limits | None:
    """The limits, or None when none are on record."""
    try:
        return risk.current_limits()
    except LimitsMissing:
        return None
