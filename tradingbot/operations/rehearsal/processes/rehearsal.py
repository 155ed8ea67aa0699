"""The run: blows on the whole product while orders flow, then rest, then both books side by side."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import psycopg
import requests

from proposals import services as proposals
from proposals.models import Strategy
from risk import selectors as risk_selectors
from risk import services as risk
from risk.contracts import TradingState
from tradingbot.core import clock
from tradingbot.core.models import AlertChannel
from tradingbot.operations import channels
from tradingbot.operations.rehearsal.limits import WIDE
from tradingbot.operations.rehearsal.processes.alerts import ALERTS_UNDER_WAY, check_alerts
from tradingbot.operations.rehearsal.processes.ledger import Verdict, balances_there, judge
from tradingbot.operations.rehearsal.processes.person import Desk, Person
from tradingbot.operations.rehearsal.processes.plan import VICTIMS, Blow, Kind, draw
from tradingbot.operations.rehearsal.processes.product import (
    HTTP_SECONDS_MAX,
    NotInTime,
    Product,
    wait_for,
)

ACTOR = "rehearsal"
FLOWING_SECONDS_MAX = 90
ORDER_SECONDS_MAX = 6  # how long a blow waits for the order that it is meant for
ALERT_SECONDS_MAX = 6  # ... and for an alert on its way
KILLABLE_SECONDS_MAX = 90
LOOK_AHEAD = 8  # blows of the plan among which the next possible one is chosen
# What is killed too fast only refuses: after so many kills an order must have gone out, or is waited for.
KILLS_PER_BREATH = 5
BREATH_SECONDS_MAX = 20
CALM_SECONDS_MAX = 180
REST_SECONDS_MAX = 180
ALERTS_SECONDS_MAX = 300  # what a killed worker was sending is taken up again after 120 s
STRATEGY_SECONDS_BETWEEN = 1
# At and above it the scripted operator decides.
APPROVAL_THRESHOLD_QUOTE = Decimal(100)
KILLS_TOLD = 20
CHANNELS = {"pager": "critical", "chat": "high"}  # who is told of what
UNDER_WAY = "('intent', 'submitted_to_exchange', 'execution_unknown')"


@dataclass(slots=True)
class Report:
    """What was done to the product and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    redis: Counter[str] = field(default_factory=Counter)
    postgres: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    fell_by_itself: Counter[str] = field(default_factory=Counter)
    complaints_of_logs: Counter[str] = field(default_factory=Counter)
    blows_seconds: float = 0.0
    rest_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)  # what did not come to rest by itself
    verdict: Verdict | None = None


class Rehearsal:
    """One run against `product`; `say` is told how it goes."""

    def __init__(
        self, product: Product, *, seed: int, kills: int, minutes_max: float, say: Callable[[str], object]
    ) -> None:
        self._product, self._say = product, say
        self._kills_wanted, self._seconds_max = kills, minutes_max * 60
        self._dice = Random(f"run:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self._plan = draw(seed, kills)
        self._person = Person(product, seed)
        self._opening: dict[str, Decimal] = {}
        self._sent = 0
        self.report = Report()

    def run(self) -> Report:
        """Let orders flow, strike, come to rest, judge. Raises NotInTime when a part does not come back."""
        self._opening = balances_there(self._product)
        self._arm()
        self._person.start()
        try:
            self._wait_for_flow()
            self._strike_all()
        finally:
            self._product.wires.calm()
            self._person.stop()
        self._come_to_rest()
        with self._product.as_database():
            self.report.verdict = judge(self._product, self._opening)
            wrong, told = check_alerts(self._product.inbox.came)
        self.report.unsettled += wrong
        self.report.notes.append(told)
        self.report.answers = self._person.answers
        self.report.fell_by_itself = self._product.fell_by_itself
        self.report.complaints_of_logs = self._product.complaints_of_logs()
        return self.report

    # --- the flow ---------------------------------------------------------------------------------------

    def _arm(self) -> None:
        symbols = sorted(self._product.exchange("/sim/market")["symbols"])
        with self._product.as_database():
            now = clock.now()
            values = asdict(risk_selectors.current_limits())
            del values["version"]
            values |= {**WIDE, "allowed_symbols": symbols}
            values["approval_threshold_quote"] = APPROVAL_THRESHOLD_QUOTE
            risk.save_limits(
                values=values, actor=ACTOR, confirmed_by=f"second {ACTOR}", reason="kills", now=now
            )
            for strategy in Strategy.objects.all():
                strategy.symbols = symbols
                strategy.min_seconds_between = STRATEGY_SECONDS_BETWEEN
                strategy.decisions_per_hour_max = 1_000_000
                proposals.save_strategy(strategy=strategy, actor=ACTOR, now=now)
            for name, severity in CHANNELS.items():
                channel = AlertChannel(name=name, severity_min=severity)
                address = self._product.inbox.address_of(name)
                channels.save_channel(channel=channel, address=address, actor=ACTOR, now=now)
            risk.set_trading_state(state=TradingState.ACTIVE, actor=ACTOR, reason="rehearsal", now=now)

    def _wait_for_flow(self) -> None:
        try:
            wait_for(
                lambda: self._value("SELECT count(*) FROM execution_fill"),
                "a first fill",
                FLOWING_SECONDS_MAX,
            )
        except NotInTime as error:
            self._note_orders()
            raise NotInTime(f"{error}; {'; '.join(self.report.notes)}") from error

    def _value(self, sql: str) -> Any:
        with self._product.connect() as connection:
            row = connection.execute(sql).fetchone()
        return row[0] if row else None

    # --- the blows --------------------------------------------------------------------------------------

    def _strike_all(self) -> None:
        began = time.monotonic()
        waiting = list(self._plan)
        told = breath = 0
        while waiting:
            self.report.blows_seconds = time.monotonic() - began
            if self.report.blows_seconds > self._seconds_max:
                self.report.notes.append(f"time was up with {len(waiting)} blows left")
                return
            blow = self._next_possible(waiting)
            waiting.remove(blow)
            time.sleep(blow.pause_seconds)
            self._strike(blow)
            kills = self.report.kills.total()
            if kills >= breath + KILLS_PER_BREATH:
                breath = kills
                self._let_an_order_out()
            if kills >= told + KILLS_TOLD:
                told = kills
                self._say(f"{kills} kills after {time.monotonic() - began:.0f} s, {self._sent} orders sent")

    def _let_an_order_out(self) -> None:
        """Wait for a moment, if need be, until more orders were sent than at the last breath."""
        before = self._sent
        with suppress(NotInTime):
            wait_for(lambda: self._count_sent() > before, "an order", BREATH_SECONDS_MAX)

    def _count_sent(self) -> int:
        """Orders that were sent so far; the last known number while the database is away."""
        with suppress(psycopg.Error):
            self._sent = self._value("SELECT count(*) FROM execution_order WHERE sent_at IS NOT NULL")
        return self._sent

    def _next_possible(self, waiting: list[Blow]) -> Blow:
        """The first blow whose victim is at work and would be started again."""

        def first() -> Blow | None:
            self._product.look()
            may = {part: self._product.may_be_killed(part) for part in {*VICTIMS, "redis", "postgres"}}
            near = waiting[:LOOK_AHEAD]  # further on, the rare blows would all come first
            return next((blow for blow in near if blow.kind is Kind.CUT or may[blow.part]), None)

        found: Blow = wait_for(first, "a part that may be killed", KILLABLE_SECONDS_MAX)
        return found

    def _strike(self, blow: Blow) -> None:
        if blow.kind is Kind.KILL:
            self._kill(blow)
        elif blow.kind is Kind.CUT:
            self._cut(blow)
        elif blow.kind is Kind.REDIS and not blow.number:
            self.report.redis["flushed"] += self._product.flush_redis()
        else:
            struck = self._product.kill(blow.part, blow.number)
            counter = self.report.redis if blow.kind is Kind.REDIS else self.report.postgres
            counter["killed" if blow.number == 9 else "restarted"] += struck

    def _kill(self, blow: Blow) -> None:
        if blow.part == "alerts":
            under_way = self._product.inbox.under_way
            under_way.clear()
            moment = "alert: under way" if under_way.wait(ALERT_SECONDS_MAX) else "no alert came"
            struck = self._product.kill(blow.part)
        elif blow.moment is None:
            moment = "any moment"
            struck = self._product.kill(blow.part)
        else:
            ambush = blow.ambush()
            self._product.wires.lay(blow.part, ambush)
            met = ambush.met.wait(ORDER_SECONDS_MAX)
            time.sleep(blow.seconds if met else 0.0)
            struck = self._product.kill(blow.part)
            ambush.over.set()
            self._product.wires.lift(blow.part)
            moment = f"order: {blow.moment}" if met else "no order came"
        if struck:
            self.report.kills[blow.part] += 1
            self.report.moments[moment] += 1

    def _cut(self, blow: Blow) -> None:
        if blow.moment is not None:
            ambush = blow.ambush()
            self._product.wires.lay(blow.part, ambush)
            if ambush.met.wait(ORDER_SECONDS_MAX / 2):
                self.report.cuts[f"{blow.deed} order {blow.moment}"] += 1
                return
            self._product.wires.lift(blow.part)
        part = self._product.wires.strike(blow.deed, blow.seconds, self._dice)
        if part is not None:
            self.report.cuts[f"{blow.deed} {part}"] += 1

    # --- rest -------------------------------------------------------------------------------------------

    def _come_to_rest(self) -> None:
        """Halt; every order comes to an end by itself; then a comparison of the books finds nothing open."""
        began = time.monotonic()
        product = self._product
        self._become_ready()
        desk = Desk(product)
        desk.insist("/halt/")
        orders = f"SELECT count(*) FROM execution_order WHERE status IN {UNDER_WAY}"  # noqa: S608 - a constant
        self._expect(lambda: self._quietly(orders) == 0, "an end for every order that was claimed")
        product.exchange("/sim/market", {"paused": True})
        self._expect(lambda: self._is_reconciled(desk), "books that agree")
        told = "an end for every alert on its way"
        self._expect(lambda: self._quietly(ALERTS_UNDER_WAY) == 0, told, ALERTS_SECONDS_MAX)
        self.report.rest_seconds = time.monotonic() - began
        self._note_orders()

    def _expect(self, condition: Callable[[], bool], what: str, seconds: float = REST_SECONDS_MAX) -> None:
        """Wait for what must come by itself; the books are judged all the same when it does not."""
        try:
            wait_for(condition, what, seconds)
        except NotInTime as error:
            self.report.unsettled.append(str(error))

    def _become_ready(self) -> None:
        """Wait for /readyz; what it complains of at the last is noted, and the books are judged all the same."""

        def is_ready() -> bool:
            self._product.look()
            return self._product.readiness() == ""

        try:
            wait_for(is_ready, "the product is ready again", CALM_SECONDS_MAX)
        except NotInTime as error:
            self.report.unsettled.append(f"{error}: {self._product.readiness()}")

    def _quietly(self, sql: str) -> Any:
        self._product.look()
        return self._value(sql)

    def _is_reconciled(self, desk: Desk) -> bool:
        """Whether a comparison that began now came out clean."""
        last = self._value("SELECT coalesce(max(id), 0) FROM execution_reconciliationrun")
        with suppress(requests.RequestException):
            desk.post("/reconciliation/run/", {})
        newer = (
            "SELECT status FROM execution_reconciliationrun "  # noqa: S608 - a number of our own
            f"WHERE id > {last} AND status <> 'running' ORDER BY id LIMIT 1"
        )
        with suppress(NotInTime):
            return bool(
                wait_for(lambda: self._quietly(newer), "a comparison", 2 * HTTP_SECONDS_MAX) == "clean"
            )
        return False

    def _note_orders(self) -> None:
        with self._product.connect() as connection:
            states = connection.execute(
                "SELECT status, exchange_status, count(*), count(unknown_since), "
                "count(*) FILTER (WHERE sent_at IS NOT NULL AND response_sha256 = '') "
                "FROM execution_order GROUP BY 1, 2 ORDER BY 3 DESC"
            ).fetchall()
            settled = connection.execute(
                "SELECT kind, count(*) FROM execution_divergence WHERE closed_at IS NOT NULL GROUP BY 1"
            ).fetchall()
            runs = connection.execute(
                "SELECT status, count(*) FROM execution_reconciliationrun GROUP BY 1"
            ).fetchall()
            refused = connection.execute(
                "SELECT status, left(refusal, 160), count(*) FROM proposals_proposal "
                "WHERE refusal <> '' AND status <> 'no_trade' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 12"
            ).fetchall()
        for status, there, count, unknown, unanswered in states:
            self.report.notes.append(
                f"{count} orders {status} {there or '-'}: {unknown} unknown for a time, {unanswered} without an answer"
            )
        self.report.notes.append(f"reconciliations: {dict(runs)}; divergences settled: {dict(settled)}")
        self.report.notes += [f"{count} proposals {status}: {why}" for status, why, count in refused]
