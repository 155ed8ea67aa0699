"""One seeded week: stepped time, the market, the bot's sweeps, an operator, and what goes wrong."""

import json
import random
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings

from execution import selectors as execution_selectors
from execution import services as execution
from execution import tasks
from execution.contracts import Decision, ExecutionError, OrderStatus, RequestKind
from execution.models import Divergence, ExecutionIntent, Order, OrderCancel, ProtectionGap
from market import rules as market_rules
from market import services as market
from market.contracts import AccountFrame, Interval, Quote
from market.models import FeedState
from proposals import selectors as proposal_selectors
from proposals import services as proposals
from proposals.adapters import advisor
from proposals.contracts import Answer, DecisionRefused
from proposals.models import Strategy
from risk import services as risk
from risk.contracts import ControlRefused, TradingState
from simulator.api import endpoints
from simulator.model.rule import decide
from tradingbot.core import announce, clock
from tradingbot.operations.rehearsal.auditor import Auditor
from tradingbot.operations.rehearsal.exchange import RehearsedExchange
from tradingbot.operations.rehearsal.faults import Faults, ProcessCrash, crashing_commits

START = datetime(2026, 1, 5, tzinfo=UTC)
IDLE_MINUTES = (5, 45)
DECISION_SECONDS = 1200
SUBSTEP_SECONDS = (1, 5)
SUBSTEPS_MAX = 60
SETTLE_SUBSTEPS_MAX = 400
EVENTS_KEPT = 40
HISTORY = 200
MINUTE = timedelta(minutes=1)
POLL = timedelta(seconds=60)
COMMIT_CRASH_CHANCE = 0.004
OPERATOR_CHANCE = 0.35


class InvariantBroken(Exception):
    """The auditor found what must never be; carries seed, step and the last events."""


@dataclass(slots=True)
class Report:
    """What one seed came to."""

    seed: int
    market_days: float = 0.0
    orders: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    duplicates: int = 0
    lost: int = 0
    unexplained: int = 0
    manual_reviews: int = 0
    divergences_settled: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    seconds_unprotected: float = 0.0
    lists: Counter[str] = field(default_factory=Counter)


class World:
    """Everything of one seed. `run` returns its report or raises InvariantBroken."""

    def __init__(self, *, seed: int, days: float, intensity: float, replay: Path | None, until: int) -> None:
        self.seed, self.days, self.until = seed, days, until
        self.rng = random.Random(f"world:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self._ids = random.Random(f"ids:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self.now = START
        self.step = 0
        self.log: deque[str] = deque(maxlen=EVENTS_KEPT)
        self.faults = Faults(seed, intensity)
        self.exchange = RehearsedExchange(seed=seed, replay=replay, faults=self.faults, now=lambda: self.now)
        self.auditor = Auditor(self.exchange)
        self.crashes = 0
        self._fed_until: datetime | None = None

    # --- time -------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, and with it the market and the user stream."""
        self.now += timedelta(seconds=seconds)
        self.exchange.run_market()
        self._deliver()

    def _deliver(self) -> None:
        frames = [
            AccountFrame(
                event_type=body["e"],
                event_time=clock.from_milliseconds(int(body["E"])),
                received_at=self.now,
                payload=body,
            )
            for body in self.exchange.due_events()
        ]
        if frames:
            market.record_account_events(events=frames)

    # --- the run ----------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Live the days, then a quiet time without faults in which everything must settle."""
        with self._seams():
            self._boot()
            end = START + timedelta(days=self.days)
            while self.now < end and self.step < self.until:
                self.advance(60 * self.rng.randint(*IDLE_MINUTES))
                self._busy_minute()
            self._settle()
        return self._report()

    def _boot(self) -> None:
        self._feed()
        listed = self.exchange.public(endpoints.EXCHANGE_INFO)["symbols"]
        market.upsert_instruments(
            listed=[(market_rules.parse_filters(raw), raw) for raw in listed], now=self.now
        )
        Strategy.objects.update(min_seconds_between=DECISION_SECONDS)
        self._attempt("clock", lambda: execution.measure_clock(exchange=self.exchange, now=self.now))
        self._attempt("reconcile", lambda: self._reconcile("start"))
        risk.set_trading_state(
            state=TradingState.ACTIVE, actor="risk-manager", reason="rehearsal", now=self.now
        )

    def _busy_minute(self) -> None:
        """Sub-steps of a few seconds, in which all sweeps run, until nothing is under way."""
        self._disturb()
        for _ in range(SUBSTEPS_MAX):
            self.step += 1
            self._feed()
            self._sweep()
            self._audit()
            if not self._something_under_way():
                return
            self.advance(self.rng.randint(*SUBSTEP_SECONDS))

    def _sweep(self) -> None:
        """Each task once, in a drawn order; a crash ends one and the next goes on as a new process would."""
        work: list[tuple[str, Callable[[], Any]]] = [
            ("clock", lambda: execution.measure_clock(exchange=self.exchange, now=self.now)),
            ("reconcile", self._reconcile_when_due),
            ("advise", self._advise),
            ("assess", tasks.assess_proposals),
            ("operator", self._operate),
            ("execute", tasks.execute_approved),
            ("fold", tasks.fold_account_events),
            ("resolve", tasks.resolve_unknown),
            ("carry out", tasks.carry_out_requests),
            ("guard", tasks.guard_positions),
            ("expire", lambda: proposals.expire_overdue(now=self.now)),
        ]
        self.rng.shuffle(work)
        for name, action in work:
            self._attempt(name, action)

    def _attempt(self, name: str, action: Callable[[], Any]) -> None:
        try:
            with crashing_commits(self.faults, COMMIT_CRASH_CHANCE):
                action()
        except ProcessCrash as crash:
            self.crashes += 1
            self._note(f"crash in {name}: {crash}")
        except ExecutionError as error:  # expected of a bad day; the sweep comes again
            self.faults.fired[f"error in {name}: {type(error).__name__}"] += 1
            self._note(f"{name}: {''.join(traceback.format_exception_only(error)).strip():.200}")

    # --- the parts --------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """What the stream worker would have written by now."""
        minutes = HISTORY if self._fed_until is None else (self.now - self._fed_until) // MINUTE
        self._fed_until = self.now - timedelta(seconds=self.now.second)
        for symbol in self.exchange.symbols:
            if minutes:
                self._feed_candles(symbol, minutes + 2)
            book = self.exchange.public(endpoints.BOOK_TICKER, symbol=symbol)
            quote = Quote(
                symbol=symbol,
                bid=Decimal(book["bidPrice"]),
                ask=Decimal(book["askPrice"]),
                bid_quantity=Decimal(book["bidQty"]),
                ask_quantity=Decimal(book["askQty"]),
                received_at=self.now,
            )
            market.record_quotes(quotes=[quote])
        for stream in ("market", "account"):
            FeedState.objects.update_or_create(
                environment=settings.TRADING_ENVIRONMENT,
                stream=stream,
                defaults={
                    "connected": True,
                    "last_message_at": self.now,
                    "resynced_at": self.now,
                    "updated_at": self.now,
                },
            )

    def _feed_candles(self, symbol: str, limit: int) -> None:
        rows = self.exchange.public(endpoints.KLINES, symbol=symbol, interval="1m", limit=str(limit))
        candles = [
            market_rules.parse_kline_row(row, symbol=symbol, interval=Interval.M1, closed=True)
            for row in rows[:-1]
        ]
        market.upsert_candles(candles=candles, now=self.now)

    def _reconcile(self, trigger: str) -> Any:
        return execution.reconcile(
            exchange=self.exchange,
            trigger=trigger,
            holder=f"step{self.step}",
            now=self.now,
            wait=self.advance,
        )

    def _reconcile_when_due(self) -> None:
        run = execution_selectors.last_completed_run()
        trigger = execution_selectors.reconciliation_is_due()
        if trigger is None and (run is None or self.now - (run.finished_at or self.now) > POLL):
            trigger = "poll"
        if trigger is not None:
            self._reconcile(trigger)

    def _advise(self) -> None:
        for strategy, symbol in proposal_selectors.due_decisions(self.now):
            proposals.advise(strategy=strategy, symbol=symbol, now=self.now)

    def _operate(self) -> None:
        """A person who answers late, twice, or not at all."""
        for proposal in proposal_selectors.pending(self.now):
            if self.rng.random() > OPERATOR_CHANCE:
                continue
            approve = self.rng.random() < 0.8
            for _ in range(2 if self.faults.hits("double click", 0.2) else 1):
                self._answer(proposal, approve)

    def _answer(self, proposal: Any, approve: bool) -> None:
        try:
            if approve:
                execution.approve_proposal(
                    proposal_id=proposal.pk,
                    version=proposal.version,
                    digest=proposal.digest,
                    actor="operator",
                    now=self.now,
                )
            else:
                proposals.reject_proposal(
                    proposal_id=proposal.pk,
                    version=proposal.version,
                    actor="operator",
                    reason="rehearsed",
                    now=self.now,
                )
        except DecisionRefused as refusal:
            self._note(f"operator: {refusal.code}")

    def _disturb(self) -> None:
        """What happens to the account from outside, and to the switch."""
        self.exchange.spoil_fills()
        if self.faults.hits("foreign order", 0.004):
            self.exchange.foreign_order(self.rng.choice(self.exchange.symbols), "25")
        if self.faults.hits("withdrawal", 0.004):
            self.exchange.move_money("USDT", Decimal(-10))
        if self.faults.hits("halt", 0.01):
            risk.halt(actor="operator", reason="rehearsed", now=self.now)
        else:
            self._rearm()
        self._settle_foreign()

    def _rearm(self) -> None:
        try:
            risk.set_trading_state(
                state=TradingState.ACTIVE, actor="risk-manager", reason="rehearsed", now=self.now
            )
        except ControlRefused:
            return

    def _settle_foreign(self) -> None:
        """The operator books what came from outside: he knows of it. Anything else stays open and counts."""
        known = self.faults.fired["foreign order"] + self.faults.fired["withdrawal"]
        for divergence in execution_selectors.open_divergences():
            if known and divergence.kind in {"foreign_order", "balance"} and not self._unresolved():
                execution.settle_divergence(
                    divergence_id=divergence.pk,
                    version=divergence.version,
                    decision=Decision.ADOPT if divergence.kind == "balance" else Decision.IGNORE,
                    reason="came from outside",
                    actor="operator",
                    now=self.now,
                )

    def _unresolved(self) -> bool:
        waiting = {OrderStatus.INTENT, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}
        return Order.objects.filter(status__in=waiting).exists()

    def _something_under_way(self) -> bool:
        return (
            self._unresolved()
            or bool(self.exchange.events_on_their_way)
            or ProtectionGap.objects.filter(ended_at=None).exists()
            or OrderCancel.objects.filter(closed_at=None).exists()
            or bool(proposal_selectors.pending(self.now))
            or bool(proposal_selectors.proposals_to_assess(1))
            or bool(proposal_selectors.approved_unclaimed(1, self.now))
        )

    def _settle(self) -> None:
        """Faults off: everything must come to an end (liveness), with a person for what asks for one."""
        self.faults.intensity = 0.0
        self.exchange.spoil_no_more()
        risk.halt(actor="operator", reason="end of the rehearsal", now=self.now)
        for _ in range(SETTLE_SUBSTEPS_MAX):
            self._feed()
            self._sweep()
            self._decide_reviews()
            self._settle_foreign()
            if not self._something_under_way():
                break
            self.advance(30)
        self.advance(120)
        self._feed()
        self._reconcile("end")
        self._settle_foreign()
        self._reconcile("end")
        self._audit(at_end=True)

    def _decide_reviews(self) -> None:
        for order in Order.objects.filter(status=OrderStatus.MANUAL_REVIEW).order_by("pk"):
            self._attempt("person", partial(self._conclude, order))

    def _conclude(self, order: Order) -> None:
        execution.ask_review(
            order_id=order.pk,
            version=order.version,
            answer=RequestKind.CONFIRM_ABSENT,
            reason="not among the exchange's orders",
            actor="operator",
            now=self.now,
        )

    # --- seams, judgement, report -----------------------------------------------------------------------

    @contextmanager
    def _seams(self) -> Iterator[None]:
        """Clock, ids, exchange, model and doorbell are replaced; nothing else is."""
        kept = (advisor.ask, announce._publisher, settings.EXCHANGE_GATEWAY)
        real_uuid4 = uuid.uuid4
        uuid.uuid4 = lambda: uuid.UUID(int=self._ids.getrandbits(128), version=4)
        clock.set_source(lambda: self.now)
        advisor.ask = self._answer_of_model
        announce._publisher = _Silence  # type: ignore[assignment]
        settings.EXCHANGE_GATEWAY = "tradingbot.operations.rehearsal.world.current_exchange"
        global _current
        _current = self.exchange
        try:
            yield
        finally:
            clock.set_source(None)
            uuid.uuid4 = real_uuid4
            advisor.ask, announce._publisher, settings.EXCHANGE_GATEWAY = kept

    def _answer_of_model(self, request: dict[str, Any], **_: Any) -> Answer:
        text = request["messages"][-1]["content"]
        content = json.dumps(decide(json.loads(text[text.index("{") : text.rindex("}") + 1])))
        body = {
            "id": f"rehearsal-{self.step}",
            "model": "rehearsal-1",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        return Answer(body=json.dumps(body), truncated=False, request_id=f"step-{self.step}", latency_ms=1)

    def _audit(self, *, at_end: bool = False) -> None:
        wrong = self.auditor.check(at_end=at_end, now=self.now)
        if wrong:
            events = "\n  ".join([*self.log, *wrong])
            raise InvariantBroken(
                f"seed {self.seed}, step {self.step}, {self.now:%Y-%m-%d %H:%M:%S}:\n  {events}"
            )

    def _note(self, text: str) -> None:
        self.log.append(f"step {self.step} {self.now:%d %H:%M:%S} {text}")

    def _report(self) -> Report:
        gaps = list(ProtectionGap.objects.values_list("started_at", "ended_at"))
        return Report(
            gaps=len(gaps),
            seconds_unprotected=sum(((end or self.now) - start).total_seconds() for start, end in gaps),
            lists=Counter(ExecutionIntent.objects.exclude(list_kind="").values_list("list_kind", flat=True)),
            seed=self.seed,
            market_days=(self.now - START).total_seconds() / 86_400,
            orders=self.auditor.exchange_order_count(),
            statuses=Counter(Order.objects.values_list("status", flat=True)),
            faults=self.faults.fired,
            crashes=self.crashes,
            duplicates=self.auditor.duplicates,
            lost=self.auditor.lost,
            unexplained=len(execution_selectors.open_divergences()),
            manual_reviews=Order.objects.filter(status=OrderStatus.MANUAL_REVIEW).count(),
            divergences_settled=Counter(
                Divergence.objects.filter(closed_at__isnull=False).values_list("kind", flat=True)
            ),
        )


class _Silence:
    """A publisher that tells nobody: in a rehearsal the sweeps find every row."""

    @staticmethod
    def put(_message: Any) -> None:
        return


_current: RehearsedExchange | None = None


def current_exchange() -> RehearsedExchange:
    """The exchange of the running rehearsal (`settings.EXCHANGE_GATEWAY` points here)."""
    if _current is None:
        raise RuntimeError("no rehearsal is running")
    return _current
