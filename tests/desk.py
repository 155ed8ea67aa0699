"""A desk that is ready to trade, made by walking the real services; and proposals at a state."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings

from execution import selectors, services
from execution.adapters import binance
from execution.models import Order
from market import services as market_services
from market.contracts import Candle, Interval, Quote
from market.models import AccountEvent, FeedState
from proposals.models import Decision, Proposal, Strategy
from risk import selectors as risk_selectors
from risk import services as risk
from risk.contracts import AutonomyLevel, TradingState
from risk.models import Autonomy
from tests.exchange import SimulatedExchange
from tradingbot.core import clock

SYMBOL = "BTCUSDT"


class Desk:
    """The bot's side of a test: armed, reconciled, with a live quote of the exchange's frozen market."""

    def __init__(self, exchange: SimulatedExchange, **balances: str) -> None:
        self.exchange = exchange
        self._candles_until: datetime | None = None
        exchange.disarm()
        exchange.post("/sim/market", {"paused": True})
        exchange.open_account(**(balances or {"USDT": "10000"}))
        if hasattr(binance._of_thread, "gateway"):
            del binance._of_thread.gateway
        market_services.refresh_instruments(now=clock.now())
        self.refresh_feeds()
        services.measure_clock(exchange=services.gateway(), now=clock.now())
        self.reconcile("start")
        self.arm()

    def refresh_feeds(self) -> None:
        """What the stream worker would write each second."""
        now = clock.now()
        for stream in ("market", "account"):
            FeedState.objects.update_or_create(
                environment=selectors.ENVIRONMENT,
                stream=stream,
                defaults={"connected": True, "last_message_at": now, "resynced_at": now, "updated_at": now},
            )
        market_services.record_quotes(quotes=[self.quote(symbol) for symbol in settings.SYMBOLS])
        self._refresh_candles(now)
        # Health itself is judged in the tests of autonomy: here all is well.
        Autonomy.objects.update_or_create(
            environment=selectors.ENVIRONMENT, defaults={"status": AutonomyLevel.AUTO, "seen_at": now}
        )

    def _refresh_candles(self, now: datetime) -> None:
        """The last minutes, calm at the present price; what this minute has already is left as it is."""
        minute = now.replace(second=0, microsecond=0)
        if self._candles_until == minute:
            return
        self._candles_until = minute
        candles = [
            _calm_candle(symbol, mid, minute - timedelta(minutes=ago))
            for symbol, mid in {symbol: self.quote(symbol).mid for symbol in settings.SYMBOLS}.items()
            for ago in range(1, 6)
        ]
        market_services.upsert_candles(candles=candles, now=now)

    def quote(self, symbol: str) -> Quote:
        bid, ask = self.exchange.quote(symbol)
        return Quote(symbol, bid, ask, Decimal(10), Decimal(10), clock.now())

    def arm(self) -> None:
        control = risk_selectors.control()
        if control is None or control.status != TradingState.ACTIVE:
            risk.set_trading_state(
                state=TradingState.ACTIVE, actor="risk-manager", reason="test", now=clock.now()
            )

    def reconcile(self, trigger: str = "test") -> Any:
        return services.reconcile(
            exchange=services.gateway(), trigger=trigger, holder="test", now=clock.now(), wait=lambda _: None
        )

    def propose(self, **answer: Any) -> Proposal:
        """A proposal as the advisor leaves it, before the gate: by default BUY 30 USDT at market."""
        now = clock.now()
        mid = self.quote(answer.get("symbol", SYMBOL)).mid
        stated = {
            "schema_version": "1",
            "symbol": SYMBOL,
            "action": "BUY",
            "order_type": "MARKET",
            "time_in_force": None,
            "limit_price": None,
            "stop_price": f"{mid * Decimal('0.98'):.2f}",
            "target_price": f"{mid * Decimal('1.05'):.2f}",
            "quote_amount": "30",
            "position_share_pct": None,
            "confidence_pct": 70,
            "valid_for_seconds": 300,
            **answer,
        }
        decision = Decision.objects.create(
            environment=selectors.ENVIRONMENT,
            strategy=Strategy.objects.get_or_create(name="test", defaults={"symbols": [SYMBOL]})[0],
            symbol=stated["symbol"],
            candle_open_time=now,
            prompt_version="v1",
            started_at=now,
        )
        return Proposal.objects.create(
            environment=selectors.ENVIRONMENT,
            decision=decision,
            symbol=stated["symbol"],
            action=stated["action"],
            answer=stated,
            confidence_pct=stated["confidence_pct"],
            created_at=now,
            expires_at=now + timedelta(seconds=300),
        )

    def assess(self, proposal: Proposal) -> Proposal:
        """The gate's advice."""
        books = selectors.portfolio(now=clock.now(), excluding=proposal.pk)
        risk.assess_proposal(proposal_id=proposal.pk, portfolio=books, now=clock.now())
        proposal.refresh_from_db()
        return proposal

    def claim(self, proposal: Proposal, now: datetime | None = None) -> Order:
        return services.claim_proposal(
            proposal_id=proposal.pk,
            actor="execution",
            now=now or clock.now(),
            recv_window_ms=settings.RECV_WINDOW_MS,
        )

    def buy(self, **answer: Any) -> Order:
        """A BUY from proposal to whatever became of sending it."""
        self.refresh_feeds()  # quotes age on a slow machine
        proposal = self.assess(self.propose(**answer))
        assert proposal.status == "auto_approved", proposal.refusal or proposal.status
        order = self.claim(proposal)
        services.send_order(order_id=order.pk, now=clock.now())
        order.refresh_from_db()
        return order

    def hear(self, payload: dict[str, Any], event_type: str = "executionReport") -> AccountEvent:
        """A user-data event as the stream worker stores it."""
        from tradingbot.core.audit import canonical_json, sha256_hex

        return AccountEvent.objects.create(
            environment=selectors.ENVIRONMENT,
            event_type=event_type,
            event_time=clock.now(),
            received_at=clock.now(),
            payload=payload,
            sha256=sha256_hex(canonical_json(payload)),
        )


def _calm_candle(symbol: str, mid: Decimal, opened: datetime) -> Candle:
    return Candle(
        symbol=symbol,
        interval=Interval.M1,
        open_time=opened,
        close_time=opened + timedelta(seconds=59, milliseconds=999),
        open=mid,
        high=mid,
        low=mid,
        close=mid,
        volume=Decimal(1),
        quote_volume=mid,
        trade_count=1,
    )
