"""What every endpoint works with: the exchange, its limits and faults, and one request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.api.limits import Limiter
from simulator.api.params import Params
from simulator.engine.contracts import Account
from simulator.engine.errors import invalid_symbol
from simulator.engine.exchange import Exchange
from simulator.engine.instruments import Instrument
from simulator.faults import FaultBook


@dataclass(slots=True)
class Desk:
    exchange: Exchange
    limiter: Limiter
    faults: FaultBook

    def instrument(self, symbol: str) -> Instrument:
        """Raises -1121 for an unknown symbol."""
        instrument = self.exchange.instruments.get(symbol)
        if instrument is None:
            raise invalid_symbol()
        return instrument


@dataclass(slots=True)
class Call:
    """One request. `method` and `path` are what faults are matched by; `now_ms` is server time."""

    params: Params
    method: str
    path: str
    now_ms: int
    signed_by: Account | None = None

    @property
    def account(self) -> Account:
        assert self.signed_by is not None, "endpoint is not marked as signed"
        return self.signed_by


Handler = Callable[[Desk, Call], Any]
