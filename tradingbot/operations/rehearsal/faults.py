"""What goes wrong in a rehearsal beside the simulator's own knobs, drawn from the seed; each firing is counted."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.transaction import Atomic

from simulator.faults import FaultKind

ALL = "all"
# A scenario of one fault meets it this much more often than the one of all.
SINGLE_FACTOR = 4.0
CRASHES = (
    "crash before commit", "crash after commit", "crash before send", "crash after send",
    "crash during a query",
)  # fmt: skip
# What the simulator has no knob for: the wire between, the bot's own processes, and the people.
OWN = (*CRASHES, "refused_connection", "lost_request", "bot down", "24 h cut", "double click", "halt")
SCENARIOS: dict[str, frozenset[str]] = {
    ALL: frozenset(OWN) | frozenset(FaultKind),
    "crashes": frozenset((*CRASHES, "bot down")),
    **{name.replace(" ", "_"): frozenset((name,)) for name in (*OWN, *FaultKind)},
}


class ProcessCrash(BaseException):
    """The process dies here: nothing that is not committed survives, and nothing catches this."""


class Faults:
    """Draws faults and counts them. `intensity` scales every chance; 0 is a day without any."""

    def __init__(self, seed: int, intensity: float, scenario: str = ALL) -> None:
        self.rng = random.Random(f"faults:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self.intensity = intensity
        self.scenario = scenario
        self.fired: Counter[str] = Counter()
        self._wanted = SCENARIOS[scenario]
        self._factor = 1.0 if scenario == ALL else SINGLE_FACTOR
        self._sheltered = False

    def allows(self, name: str) -> bool:
        """Whether the scenario holds the fault `name`."""
        return name in self._wanted

    def draws(self, chance: float) -> bool:
        """One throw of the dice; nothing is counted."""
        return self.rng.random() < chance * self.intensity * self._factor

    def hits(self, name: str, chance: float) -> bool:
        """Whether the fault `name` strikes now."""
        struck = self.allows(name) and self.draws(chance)
        if struck:
            self.fired[name] += 1
        return struck

    def crash(self, point: str, chance: float) -> None:
        """Die at `point` with `chance`."""
        if not self._sheltered and self.hits(f"crash {point}", chance):
            raise ProcessCrash(point)

    @contextmanager
    def shelter(self) -> Iterator[None]:
        """Within it nothing dies: another process is at work, on the time of the one that may."""
        before, self._sheltered = self._sheltered, True
        try:
            yield
        finally:
            self._sheltered = before

    def strikes_commit(self, point: str, chance: float) -> bool:
        """Whether the process dies at the commit that is under way."""
        return not self._sheltered and self.hits(f"crash {point}", chance)


@contextmanager
def crashing_commits(faults: Faults, chance: float) -> Iterator[None]:
    """Within it the process may die just before or just after any outermost commit."""
    original: Callable[..., Any] = Atomic.__exit__

    def leave(self: Atomic, kind: Any, error: Any, trace: Any) -> None:
        outermost = not connection.savepoint_ids
        if outermost and kind is None and faults.strikes_commit("before commit", chance):
            crash = ProcessCrash("before commit")
            original(self, ProcessCrash, crash, None)
            raise crash
        original(self, kind, error, trace)
        if outermost and kind is None and faults.strikes_commit("after commit", chance):
            raise ProcessCrash("after commit")

    Atomic.__exit__ = leave  # type: ignore[method-assign]
    try:
        yield
    finally:
        Atomic.__exit__ = original  # type: ignore[method-assign]
