"""What goes wrong in a rehearsal, drawn from the seed; each firing is counted."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.transaction import Atomic

PLACE_FAULTS = ("refused_connection", "lost_before", "lost_after", "server_error_after", "late_answer")
EVENT_FAULTS = ("dropped", "duplicated", "delayed")


class ProcessCrash(BaseException):
    """The process dies here: nothing that is not committed survives, and nothing catches this."""


class Faults:
    """Draws faults and counts them. `intensity` scales every chance; 0 is a day without any."""

    def __init__(self, seed: int, intensity: float) -> None:
        self.rng = random.Random(f"faults:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
        self.intensity = intensity
        self.fired: Counter[str] = Counter()

    def hits(self, name: str, chance: float) -> bool:
        """Whether the fault `name` strikes now."""
        struck = self.rng.random() < chance * self.intensity
        if struck:
            self.fired[name] += 1
        return struck

    def one_of(self, names: tuple[str, ...], chance: float) -> str:
        """One of `names` with `chance` altogether, else an empty text."""
        if self.rng.random() >= chance * self.intensity:
            return ""
        name = self.rng.choice(names)
        self.fired[name] += 1
        return name

    def crash(self, point: str, chance: float) -> None:
        """Die at `point` with `chance`."""
        if self.hits(f"crash {point}", chance):
            raise ProcessCrash(point)


@contextmanager
def crashing_commits(faults: Faults, chance: float) -> Iterator[None]:
    """Within it the process may die just before or just after any outermost commit."""
    original: Callable[..., Any] = Atomic.__exit__

    def leave(self: Atomic, kind: Any, error: Any, trace: Any) -> None:
        outermost = not connection.savepoint_ids
        if outermost and kind is None and faults.hits("crash before commit", chance):
            crash = ProcessCrash("before commit")
            original(self, ProcessCrash, crash, None)
            raise crash
        original(self, kind, error, trace)
        if outermost and kind is None and faults.hits("crash after commit", chance):
            raise ProcessCrash("after commit")

    Atomic.__exit__ = leave  # type: ignore[method-assign]
    try:
        yield
    finally:
        Atomic.__exit__ = original  # type: ignore[method-assign]
