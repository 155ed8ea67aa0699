"""A worker's turn at comparing the books: one at a time, and none that has lost its turn writes."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import transaction

from execution import selectors
from execution.contracts import QueryFailed
from tradingbot.core import leases

# Renewed before each question and each transaction. A worker that dies holds the others up no longer than that.
LEASE_SECONDS = settings.EXCHANGE_TIMEOUT_SECONDS + 10
TAKEN_OVER = "it took too long and another worker took it over"


class Turn:
    """The lease of a comparison with its fencing number."""

    def __init__(self, name: str, holder: str, fence: int) -> None:
        self._name, self._holder, self._fence = name, holder, fence

    @classmethod
    def take(cls, holder: str) -> "Turn | None":
        """The turn, or None while another worker has it."""
        name = f"reconcile:{selectors.ENVIRONMENT}"
        fence = leases.acquire(name, holder=holder, seconds=LEASE_SECONDS)
        return None if fence is None else cls(name, holder, fence)

    def keep(self) -> None:
        """Renew it; raises QueryFailed when another worker has it."""
        fence = leases.acquire(self._name, holder=self._holder, seconds=LEASE_SECONDS)
        if fence != self._fence:
            raise QueryFailed(TAKEN_OVER)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Renew it, then a transaction that nobody can take the turn over in; raises QueryFailed when it is lost."""
        self.keep()
        with transaction.atomic():
            try:
                leases.check_fence(self._name, self._fence)
            except leases.LeaseLost as error:
                raise QueryFailed(TAKEN_OVER) from error
            yield

    def end(self) -> None:
        """Let another worker have it now."""
        leases.release(self._name, holder=self._holder)
