"""How long anything is held without a stop on the exchange: measured, stored, alarmed."""

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db import transaction

from execution import selectors
from execution.models import Position, ProtectionGap
from execution.selectors import protection
from tradingbot.core.alerts import raise_alert, resolve_alerts
from tradingbot.core.announce import announce
from tradingbot.core.decimals import ZERO, plain

MILLISECOND = Decimal("0.001")


def watch_position(*, symbol: str, now: datetime, since: datetime | None = None) -> protection.Cover | None:
    """Bring a position's protection up to date and count the time without; None when nothing was ever held.

    `since` is the exchange's time of what has just happened, a fill; else a gap begins `now`. It ends at the
    exchange's time from which the cover stands, or `now` when there is nothing left to protect.
    """
    with transaction.atomic():
        position = (
            Position.objects.select_for_update()
            .filter(environment=selectors.ENVIRONMENT, symbol=symbol)
            .first()
        )
        if position is None:
            return None
        guards = protection.guards(symbol)
        cover = protection.cover(position, guards)
        before = (position.protected_since, position.unprotected_since, position.seconds_unprotected)
        if cover.exposed > 0:
            _begin_gap(position, cover, min(since or now, now))
        elif position.unprotected_since is not None:
            _end_gap(position, cover, now)
        covered = cover.held > 0 and cover.exposed == 0 and cover.covered > 0
        position.protected_since = cover.since if covered else None
        if before != (position.protected_since, position.unprotected_since, position.seconds_unprotected):
            position.save(update_fields=["protected_since", "unprotected_since", "seconds_unprotected"])
            announce("position", symbol)
        _alert_run_over(position, guards, now)
        _alert_when_long(position, cover, now)
    return cover


def _begin_gap(position: Position, cover: protection.Cover, at: datetime) -> None:
    if position.unprotected_since is not None:
        return
    position.unprotected_since = at
    ProtectionGap.objects.create(
        environment=position.environment, symbol=position.symbol, started_at=at, quantity=cover.exposed
    )
    announce("position", position.symbol, event="unprotected")


def _end_gap(position: Position, cover: protection.Cover, now: datetime) -> None:
    began = position.unprotected_since or now
    ended = min(max(began, cover.since), now) if cover.covered and cover.since else max(began, now)
    seconds = Decimal((ended - began).total_seconds()).quantize(MILLISECOND)
    position.seconds_unprotected += max(ZERO, seconds)
    position.unprotected_since = None
    ProtectionGap.objects.filter(
        environment=position.environment, symbol=position.symbol, ended_at=None
    ).update(ended_at=ended)
    resolve_alerts(dedupe_key=f"position_unprotected:position:{position.symbol}", now=now)
    resolve_alerts(dedupe_key=f"stop_run_over:position:{position.symbol}", now=now)


def _alert_run_over(position: Position, guards: list[protection.Guard], now: datetime) -> None:
    """A stop with a limit that was triggered and not filled while the price ran on: at once, it costs money."""
    for guard in guards:
        if guard.is_run_over and guard.stop and guard.stop.price and guard.bid and position.quantity > 0:
            raise_alert(
                kind="stop_run_over",
                severity="critical",
                subject=f"position:{position.symbol}",
                title=f"The stop of {position.symbol} was run over and covers nothing",
                detail=f"It sells at {plain(guard.stop.price)} or better, the bid is {plain(guard.bid)}. "
                "If that lasts it is cancelled and what is held is sold at market.",
                now=now,
            )


def _what_hinders(symbol: str) -> str:
    resting = [order for order in protection.exits_under_way(symbol) if order.price is not None]
    if resting:
        return (
            f"A sale that rests at {plain(resting[0].price or ZERO)} holds the coins, so no stop can: "
            "cancel it on its page, or wait for it."
        )
    return "The bot goes on trying to protect it; see the positions page."


def _alert_when_long(position: Position, cover: protection.Cover, now: datetime) -> None:
    if position.unprotected_since is None:
        return
    seconds = (now - position.unprotected_since).total_seconds()
    if seconds < settings.UNPROTECTED_MAX_SECONDS:
        return
    raise_alert(
        kind="position_unprotected",
        severity="critical",
        subject=f"position:{position.symbol}",
        title=f"{plain(cover.exposed)} {position.base_asset} is held without a stop on the exchange",
        detail=f"For {int(seconds)} s now. {_what_hinders(position.symbol)}",
        now=now,
    )
