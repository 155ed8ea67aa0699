"""What the advisor is told of the account, before it is asked about a symbol."""

from datetime import datetime
from decimal import Decimal

from execution.models import Position
from execution.selectors.account import portfolio, quotes_of
from execution.selectors.killing import is_residue
from execution.selectors.protection import ENVIRONMENT
from proposals.contracts import AdvisorAccount, HeldPosition
from risk import selectors as risk
from risk.contracts import Limits, Portfolio
from tradingbot.core.decimals import ZERO, plain

CENT = Decimal("0.01")


def advisor_account(symbol: str, now: datetime) -> AdvisorAccount:
    """Money, open positions with their protection and what the limits leave (`settings.ADVISOR_ACCOUNT`)."""
    books = portfolio(now=now)
    rows = list(Position.objects.filter(environment=ENVIRONMENT, quantity__gt=0).order_by("symbol"))
    quotes = quotes_of(row.symbol for row in rows)
    held = {row.symbol: _held(row) for row in rows if not is_residue(row, quotes.get(row.symbol))}
    return AdvisorAccount(
        free_quote=books.free_quote,
        free_base=books.free_base.get(symbol),
        position=held.pop(symbol, None),
        limits_remaining=limits_remaining(books, risk.current_limits(), symbol),
        other_positions=held,
    )


def limits_remaining(books: Portfolio, limits: Limits, symbol: str) -> dict[str, str]:
    """What the limits leave to one more purchase of `symbol`, as the gate counts; what is unknown is left out."""
    held = {*books.holdings, *(s for s, amount in books.reserved_quote.items() if amount)}
    left: dict[str, Decimal] = {
        "order_notional_quote": limits.order_notional_max_quote,
        "open_positions": Decimal(limits.open_positions_max - len(held - {symbol})),
        "open_orders": Decimal(limits.open_orders_max - books.open_order_count),
        "orders_this_minute": Decimal(limits.orders_per_minute_max - books.orders_last_minute),
        "orders_this_hour": Decimal(limits.orders_per_hour_max - books.orders_last_hour),
    }
    equity, result = books.equity_quote, books.result_today_quote
    if equity is not None:
        left["loss_per_trade_quote"] = (equity * limits.risk_per_trade_max_pct / 100).quantize(CENT)
        exposure = {s: _exposure_quote(books, s) for s in held}
        known = [amount for amount in exposure.values() if amount is not None]
        if len(known) == len(exposure):
            gross, own = sum(known, ZERO), exposure.get(symbol) or ZERO
            left["exposure_quote"] = (equity * limits.gross_exposure_max_pct / 100 - gross).quantize(CENT)
            left["symbol_exposure_quote"] = (equity * limits.symbol_exposure_max_pct / 100 - own).quantize(
                CENT
            )
    if equity is not None and result is not None:
        left["loss_today_quote"] = (equity * limits.daily_loss_max_pct / 100 + min(ZERO, result)).quantize(
            CENT
        )
    return {name: plain(max(ZERO, amount)) for name, amount in left.items()}


def _held(row: Position) -> HeldPosition:
    return HeldPosition(
        quantity=row.quantity,
        average_price=row.cost_quote / row.quantity,
        stop_price=row.stop_price,
        target_price=row.target_price,
        opened_at=row.opened_at,
        is_protected=row.protected_since is not None,
    )


def _exposure_quote(books: Portfolio, symbol: str) -> Decimal | None:
    holding = books.holdings.get(symbol)
    worth = holding.exposure_quote if holding else ZERO
    return None if worth is None else worth + books.reserved_quote.get(symbol, ZERO)
