"""Rules that open nothing for a while: a wild market, a fall from the peak, losses one after the other.

An exit passes them all: whoever is in a position must be able to leave it, above all then.
Starting values and practice: reference/reliability.md §1.2, rows 6, 13 and 17.
"""

from datetime import datetime, timedelta

from risk.rules.reading import (
    Case,
    Finding,
    Unreadable,
    count,
    finding,
    not_negative,
    number,
    positive,
    shown,
)
from tradingbot.core.decimals import ZERO, plain

VOLATILITY_MINUTES = 5
CANDLE_AGE_MAX = timedelta(seconds=150)  # two and a half candles, as for a snapshot


def volatility_halt(case: Case) -> Finding:
    """Highest less lowest price of the last minutes and now, in percent of the mid price."""
    limit = not_negative(case.limits.volatility_max_pct, "the limit volatility_max_pct")
    seen = case.gate.recent_range
    if seen is None or seen.minutes != VOLATILITY_MINUTES:
        raise Unreadable(f"the last {VOLATILITY_MINUTES} minutes of {case.gate.symbol} are not whole")
    age = case.gate.now - seen.received_at
    if abs(age) > CANDLE_AGE_MAX:
        raise Unreadable(f"the newest candle came {age.total_seconds():.0f} s ago")
    mid = case.quote.mid
    low = min(positive(seen.low, "the lowest price"), mid)
    high = max(positive(seen.high, "the highest price"), mid)
    moved = shown((high - low) * 100 / mid)
    return finding(
        (high - low) * 100 <= limit * mid,
        observed=moved,
        limit=plain(limit),
        good="the market is calm enough",
        bad=f"the price moved over {moved} % within {VOLATILITY_MINUTES} minutes: nothing new is opened",
    )


def drawdown(case: Case) -> Finding:
    """How far equity lies below its highest so far; deposits and withdrawals do not count."""
    limit = not_negative(case.limits.drawdown_max_pct, "the limit drawdown_max_pct")
    equity = number(case.gate.portfolio.equity_quote, "the equity")
    peak = positive(case.gate.portfolio.equity_peak_quote, "the highest equity so far")
    fall = max(ZERO, peak - equity)
    share = shown(fall * 100 / peak)
    return finding(
        fall * 100 < limit * peak or fall == 0,
        observed=share,
        limit=plain(limit),
        good="equity is near enough to its highest",
        bad=f"equity lies {share} % below its highest ({shown(equity)} of {shown(peak)}): nothing new is "
        "opened until it recovers or a second person confirms a higher limit",
    )


def loss_streak(case: Case) -> Finding:
    """After so many exits in a row that lost, nothing is opened for a while since the last of them."""
    most = count(case.limits.loss_streak_max, "the limit loss_streak_max")
    pause = count(case.limits.loss_streak_pause_seconds, "the limit loss_streak_pause_seconds")
    streak = count(case.gate.portfolio.loss_streak, "the number of losses in a row")
    last = case.gate.portfolio.last_loss_at
    if streak and last is None:
        raise Unreadable("when the last loss was is not known")
    until = None if last is None else last + timedelta(seconds=pause)
    return finding(
        streak < most or until is None or case.gate.now >= until,
        observed=str(streak),
        limit=str(most),
        good="the last exits did not all lose" if streak < most else "the pause after the losses is over",
        bad=f"the last {streak} exits lost: nothing new is opened before {_clock(until)}",
    )


def cool_down(case: Case) -> Finding:
    """After an exit that lost, the same symbol is left alone for a while: no revenge."""
    pause = count(case.limits.cool_down_seconds, "the limit cool_down_seconds")
    last = case.gate.portfolio.last_loss_by_symbol.get(case.gate.symbol)
    if last is None:
        return finding(True, observed="no loss", limit=str(pause), good="its last exit did not lose", bad="")
    ago_seconds = (case.gate.now - last).total_seconds()
    return finding(
        ago_seconds >= pause,
        observed=f"{ago_seconds:.0f}",
        limit=str(pause),
        good="its last loss is long enough ago",
        bad=f"an exit of {case.gate.symbol} lost {ago_seconds:.0f} s ago: it is not bought before "
        f"{_clock(last + timedelta(seconds=pause))}",
    )


def _clock(instant: datetime | None) -> str:
    return f"{instant:%d %b %H:%M:%S} UTC" if instant else "a time that is not known"
