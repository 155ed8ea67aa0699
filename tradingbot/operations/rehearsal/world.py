"""One seeded week: stepped time, the market, the bot's sweeps, its people, and what goes wrong."""

import heapq
import itertools
import random
import time
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from execution import selectors as execution_selectors
from execution import services as execution
from execution import tasks
from execution.contracts import ExecutionError
from execution.models import Order, OrderCancel, ProtectionGap
from market import rules as market_rules
from market import services as market
from proposals import selectors as proposal_selectors
from proposals import services as proposals
from proposals.adapters import advisor
from proposals.contracts import Answer
from proposals.models import Strategy
from simulator.api import endpoints
from tradingbot.core import announce, clock
from tradingbot.operations.rehearsal import model
from tradingbot.operations.rehearsal import report as reporting
from tradingbot.operations.rehearsal.auditor import Auditor
from tradingbot.operations.rehearsal.exchange import RehearsedExchange
from tradingbot.operations.rehearsal.faults import ALL, Faults, ProcessCrash, crashing_commits
from tradingbot.operations.rehearsal.people import People, is_unresolved
from tradingbot.operations.rehearsal.report import Report
from tradingbot.operations.rehearsal.streams import Streams

START = datetime(2026, 1, 5, tzinfo=UTC)
IDLE_MINUTES = (5, 45)
DECISION_SECONDS = 1200
SUBSTEP_SECONDS = (1, 5)
# What is not over after so many sub-steps is looked at less often, and at last left for the next busy minute.
SUBSTEPS_MAX = 60
COARSE_SECONDS = (15, 30)
COARSE_SUBSTEPS_MAX = 60
SETTLE_SUBSTEPS_MAX = 400
EVENTS_KEPT = 40
POLL = timedelta(seconds=60)
COMMIT_CRASH_CHANCE = 0.004
DOWN_CHANCE = 0.004
DOWN_MINUTES = (1, 30)


class InvariantBroken(Exception):
    """The auditor found what must never be; carries seed, step and the last events."""


class World:
    """Everything of one seed. `run` returns its report or raises InvariantBroken."""

    def __init__(
        self,
        *,
        seed: int,
        days: float,
        intensity: float,
        replay: Path | None,
        until: int,
        scenario: str = ALL,
    ) -> None:
        self.seed, self.days, self.until = seed, days, until
        self.rng = random.Random(f"world:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self._ids = random.Random(f"ids:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self.now = START
        self.step = 0
        self.log: deque[str] = deque(maxlen=EVENTS_KEPT)
        self._later: list[tuple[datetime, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self.faults = Faults(seed, intensity, scenario)
        self.exchange = RehearsedExchange(
            seed=seed, replay=replay, faults=self.faults, now=lambda: self.now, pass_time=self.advance
        )
        self.exchange.venue.later = self._call_later
        self.exchange.knobs.note = self._note
        self.streams = Streams(self.exchange, self.faults, lambda: self.now)
        self.people = People(self.exchange, self.faults, self.rng, lambda: self.now, self._note)
        self.auditor = Auditor(self.exchange)
        self.crashes = 0

    # --- time -------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, and with it what was due, the market and the streams."""
        self.now += timedelta(seconds=seconds)
        while self._later and self._later[0][0] <= self.now:
            heapq.heappop(self._later)[2]()
        self.exchange.run_market()
        with self.faults.shelter():
            self.streams.step()

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now + timedelta(seconds=seconds), next(self._serial), call))

    # --- the run ----------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Live the days, then a quiet time without faults in which everything must settle."""
        began = time.monotonic()
        try:
            with self._seams():
                self._boot()
                end = START + timedelta(days=self.days)
                while self.now < end and self.step < self.until:
                    self.advance(60 * self.rng.randint(*IDLE_MINUTES))
                    self._busy_minute()
                self._settle()
        except InvariantBroken:
            raise
        except Exception as error:  # whatever it is: it must be told with its seed and step
            raise self._broken("".join(traceback.format_exception(error)).splitlines()) from error
        return self._report(time.monotonic() - began)

    def _boot(self) -> None:
        self.streams.step()
        self.streams.feed_market()
        self._refresh_instruments()
        Strategy.objects.update(min_seconds_between=DECISION_SECONDS)
        self.people.take_their_seats()
        self._attempt("clock", lambda: execution.measure_clock(exchange=self.exchange, now=self.now))
        self._attempt("reconcile", lambda: self._reconcile("start"))
        self.people.arm()

    def _refresh_instruments(self) -> None:
        listed = self.exchange.public(endpoints.EXCHANGE_INFO)["symbols"]
        market.upsert_instruments(
            listed=[(market_rules.parse_filters(raw), raw) for raw in listed], now=self.now
        )

    def _busy_minute(self) -> None:
        """Sub-steps of a few seconds, in which all sweeps run, until nothing is under way."""
        self._refresh_instruments()
        self.exchange.knobs.begin_minute()
        self.people.use_the_switch()
        self.people.book_what_came_from_outside()
        for substep in range(SUBSTEPS_MAX + COARSE_SUBSTEPS_MAX):
            self.step += 1
            self.streams.feed_market()
            self._sweep()
            self._audit()
            if not self._is_something_under_way():
                return
            if self.faults.hits("bot down", DOWN_CHANCE):
                self._go_down()
            self.advance(self.rng.randint(*(SUBSTEP_SECONDS if substep < SUBSTEPS_MAX else COARSE_SECONDS)))

    def _go_down(self) -> None:
        """All processes of the bot are gone for a while."""
        self.streams.cut()
        self._note("the bot is down")
        self.now += timedelta(minutes=self.rng.randint(*DOWN_MINUTES))

    def _sweep(self) -> None:
        """Each task once, in a drawn order; a crash ends one and the next goes on as a new process would."""
        work: list[tuple[str, Callable[[], Any]]] = [
            ("clock", lambda: execution.measure_clock(exchange=self.exchange, now=self.now)),
            ("reconcile", self._reconcile_when_due),
            ("advise", self._advise),
            ("assess", tasks.assess_proposals),
            ("operator", self.people.answer_proposals),
            ("review", self.people.review),
            ("replace", self.people.replace_entries),
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
            self._note(f"{name}: {''.join(traceback.format_exception_only(error)).strip():.200}")

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

    def _is_something_under_way(self) -> bool:
        return (
            is_unresolved()
            or self.streams.has_events_on_their_way
            or ProtectionGap.objects.filter(ended_at=None).exists()
            or OrderCancel.objects.filter(closed_at=None).exists()
            or bool(proposal_selectors.pending(self.now))
            or bool(proposal_selectors.proposals_to_assess(1))
            or bool(proposal_selectors.approved_unclaimed(1, self.now))
            or self.people.have_asked()
        )

    def _settle(self) -> None:
        """Faults off: everything must come to an end (liveness), with a person for what asks for one."""
        self.faults.intensity = 0.0
        self.exchange.calm_down()
        self._refresh_instruments()
        self.people.halt("end of the rehearsal")
        for _ in range(SETTLE_SUBSTEPS_MAX):
            self.streams.feed_market()
            self._sweep()
            self._attempt("review", lambda: self.people.review(at_once=True))
            self.people.book_what_came_from_outside()
            if not self._is_something_under_way():
                break
            self.advance(30)
        self.advance(120)
        self.streams.feed_market()
        for _ in range(2):
            self._sweep()
            self._reconcile("end")
            self.people.book_what_came_from_outside()
        self._reconcile("end")
        self._audit(at_end=True)

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
        return model.answer(request, dice=self.rng, step=self.step)

    def _audit(self, *, at_end: bool = False) -> None:
        wrong = self.auditor.check(at_end=at_end, now=self.now)
        if wrong:
            raise self._broken(wrong)

    def _broken(self, wrong: list[str]) -> InvariantBroken:
        events = "\n  ".join([*self.log, *wrong])
        return InvariantBroken(
            f"seed {self.seed}, step {self.step}, {self.now:%Y-%m-%d %H:%M:%S}:\n  {events}"
        )

    def _note(self, text: str) -> None:
        self.log.append(f"step {self.step} {self.now:%d %H:%M:%S} {text}")

    def _report(self, wall_seconds: float) -> Report:
        gaps, seconds = reporting.unprotected(self.now)
        return Report(
            seed=self.seed,
            market_days=(self.now - START).total_seconds() / 86_400,
            steps=self.step,
            orders=self.auditor.exchange_order_count(),
            statuses=Counter(Order.objects.values_list("status", flat=True)),
            faults=self.faults.fired + self.exchange.knobs.fired(),
            crashes=self.crashes,
            duplicates=self.auditor.duplicates,
            lost=self.auditor.lost,
            unexplained=reporting.open_divergences(),
            reviews=reporting.reviews(),
            unknowns=reporting.unknowns(),
            divergences_settled=reporting.settled_divergences(),
            gaps=gaps,
            seconds_unprotected=seconds,
            lists=reporting.lists_by_kind(),
            asked=reporting.asked(),
            wall_seconds=wall_seconds,
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
