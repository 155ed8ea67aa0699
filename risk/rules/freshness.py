"""Rules about how old and how good the data is that everything else is judged by."""

from datetime import timedelta

from risk.rules.reading import Case, Finding, finding, not_negative, shown, whole
from tradingbot.core.decimals import plain

CLOCK_OFFSET_MAX_MS = 500  # Binance refuses a timestamp 1 s ahead (reference/reliability.md §1.2, row 29)


def data_fresh(case: Case) -> Finding:
    """No stream may be stale, and the symbol must have a sane quote (invariant 14)."""
    stale = case.gate.feeds_stale
    _ = case.quote
    return finding(
        len(stale) == 0,
        observed=", ".join(stale) or "fresh",
        limit="fresh",
        good="all streams are fresh",
        bad=f"stale or not resynchronised: {', '.join(stale)}",
    )


def quote_age(case: Case) -> Finding:
    """The quote must be young by our own clock; one from the future is as bad as an old one."""
    limit = not_negative(case.limits.quote_age_max_seconds, "the limit quote_age_max_seconds")
    age_us = (case.gate.now - case.quote.received_at) // timedelta(microseconds=1)
    return finding(
        abs(age_us) <= limit * 1_000_000,
        observed=f"{age_us / 1_000_000:.3f}",
        limit=plain(limit),
        good="the quote is young enough",
        bad=f"the quote is {age_us / 1_000_000:.1f} s old",
    )


def clock_offset(case: Case) -> Finding:
    """Our clock must agree with the exchange's, and that must have been measured lately."""
    offset = whole(case.gate.portfolio.clock_offset_ms, "the offset of our clock to the exchange's")
    return finding(
        abs(offset) <= CLOCK_OFFSET_MAX_MS,
        observed=str(offset),
        limit=str(CLOCK_OFFSET_MAX_MS),
        good="our clock agrees with the exchange's",
        bad=f"our clock is {abs(offset)} ms off the exchange's: check this machine's time service",
    )


def spread(case: Case) -> Finding:
    """Bid and ask must lie close together, or every order pays too much for being filled."""
    limit = not_negative(case.limits.spread_max_bps, "the limit spread_max_bps")
    observed = case.quote.spread_bps
    return finding(
        observed <= limit,
        observed=shown(observed),
        limit=plain(limit),
        good="bid and ask lie close together",
        bad=f"bid and ask lie {shown(observed)} basis points apart",
    )
