"""The line between the bot and the exchange in stepped time: what the fault book does to one request.

It does what `simulator.server.rest` does over HTTP, with waiting that lets the rehearsal's time pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from simulator.api.desk import Call
from simulator.api.endpoints import REST_PREFIX, Endpoint
from simulator.api.params import Params
from simulator.api.security import check_timestamp
from simulator.engine.contracts import Account
from simulator.engine.errors import ExchangeError
from simulator.faults import Fault
from simulator.server.venue import Venue
from tradingbot.operations.rehearsal.faults import Faults
from tradingbot.operations.rehearsal.knobs import Knobs, Moment

ADDRESS = "rehearsal"
REFUSED_CHANCE, LOST_CHANCE = 0.02, 0.04
RATE_LIMITED = (429, 418)
PATIENCE_MS = settings.EXCHANGE_TIMEOUT_SECONDS * 1000


class NoConnection(Exception):
    """The request never left."""


class NoAnswer(Exception):
    """The request left, and nothing came back."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it goes over the line; with `timestamp` among its parameters when it is signed."""

    endpoint: Endpoint
    method: str
    path: str
    parameters: dict[str, str]

    @property
    def places(self) -> bool:
        """Whether it orders or cancels something, so that its fate matters."""
        return self.method != "GET"


class Line:
    """Carries requests of one account. `pass_time` lets seconds go by; `now_ms` is the bot's clock."""

    def __init__(
        self,
        venue: Venue,
        account: Account,
        faults: Faults,
        knobs: Knobs,
        now_ms: Callable[[], int],
        pass_time: Callable[[float], None],
    ) -> None:
        self._venue, self._account = venue, account
        self._faults, self._knobs = faults, knobs
        self._now_ms, self._pass_time = now_ms, pass_time
        self._held_until_ms = 0
        self._late: list[tuple[int, Request]] = []

    @property
    def is_held(self) -> bool:
        """Whether requests wait because the exchange said so."""
        return self._now_ms() < self._held_until_ms

    def ask(self, request: Request) -> Any:
        """Send one request. Raises NoConnection, NoAnswer or ExchangeError."""
        self._draw(request)
        self._refuse_when_down(request)
        path = f"{REST_PREFIX}{request.path}"
        symbol = request.parameters.get("symbol", "")
        mishaps = self._venue.desk.faults.mishaps(request.method, path, symbol, self._venue.now_ms())
        if mishaps.delay_before_ms > PATIENCE_MS:
            self._late.append((self._now_ms() + mishaps.delay_before_ms, request))
            self._give_up()
        self._wait(mishaps.delay_before_ms)
        if mishaps.answer_before is not None:
            raise _refusal(mishaps.answer_before)
        answer = self.execute(request)
        if mishaps.delay_before_ms + mishaps.delay_after_ms > PATIENCE_MS:
            self._wait(PATIENCE_MS - mishaps.delay_before_ms)
            raise NoAnswer("no answer in time")
        self._wait(mishaps.delay_after_ms)
        if mishaps.answer_after is not None:
            raise _refusal(mishaps.answer_after)
        if mishaps.drop_answer:
            raise NoAnswer("the answer was lost")
        return answer

    def execute(self, request: Request) -> Any:
        """What the exchange does when a request reaches it. Raises ExchangeError."""
        now_ms = self._venue.now_ms()
        params = Params(request.parameters)
        call = Call(params, request.method, f"{REST_PREFIX}{request.path}", now_ms, self._account)
        limiter = self._venue.desk.limiter
        try:
            limiter.charge(ADDRESS, request.endpoint.cost(params), now_ms)
            if "timestamp" in request.parameters:
                check_timestamp(request.parameters["timestamp"], params, now_ms)
            answer = self._venue.execute(lambda: request.endpoint.handler(self._venue.desk, call))
        except ExchangeError as error:
            if error.status in RATE_LIMITED:
                self._held_until_ms = self._now_ms() + (error.retry_after_s or 1) * 1000
            raise
        if request.endpoint.free_on_success:
            limiter.refund(ADDRESS, request.endpoint.cost(params), now_ms)
        return answer

    def run_late(self) -> None:
        """Requests whose sender has given up reach the exchange now; nobody hears its answer."""
        due = [entry for entry in self._late if entry[0] <= self._now_ms()]
        self._late = [entry for entry in self._late if entry not in due]
        for _, request in due:
            try:
                self.execute(request)
            except ExchangeError:
                continue

    def calm(self) -> None:
        """Nothing holds requests back any more."""
        self._held_until_ms = 0
        self._venue.desk.limiter.forget()

    def _draw(self, request: Request) -> None:
        where = {"method": request.method, "path": f"{REST_PREFIX}{request.path}"}
        self._knobs.draw(Moment.ORDER if request.places else Moment.QUERY, **where)
        if request.method == "POST" and "test" not in request.path:
            self._knobs.draw(Moment.PLACED)

    def _refuse_when_down(self, request: Request) -> None:
        if self.is_held:
            raise NoConnection("held back: the exchange told us to wait")
        outage = self._venue.outage
        if self._venue.is_down:
            if outage.mode == "refuse":
                raise NoConnection("connection refused: the exchange is down")
            if outage.mode == "reset":
                raise NoAnswer("the connection was cut")
            raise ExchangeError(-1000, "Service unavailable", status=outage.status)
        if request.places and self._faults.hits("refused_connection", REFUSED_CHANCE):
            raise NoConnection("connection refused")
        if request.places and self._faults.hits("lost_request", LOST_CHANCE):
            raise NoAnswer("the request was lost")

    def _give_up(self) -> None:
        self._wait(PATIENCE_MS)
        raise NoAnswer("no answer in time")

    def _wait(self, milliseconds: int) -> None:
        if milliseconds > 0:
            self._pass_time(milliseconds / 1000)


def _refusal(fault: Fault) -> ExchangeError:
    """The answer that a fault gives instead of the exchange's."""
    retry_after_s = fault.retry_after_s if fault.status in RATE_LIMITED else None
    return ExchangeError(fault.code, fault.msg, status=fault.status, retry_after_s=retry_after_s)
