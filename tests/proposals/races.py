"""Run calls at the same instant on threads of their own, each with its own database connection."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection


def race(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call returned or raised, in the order of `calls`."""
    outcomes: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(index: int) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(60)
            outcomes[index] = calls[index]()
        except Exception as error:
            outcomes[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes


Call = Callable[[], Any]


@contextmanager
def two_hands() -> Iterator[Callable[[Call, Call], tuple[Any, Any]]]:
    """Runs two calls at the same instant, many times: both threads keep their connections between rounds."""
    gate = threading.Barrier(2, timeout=60)

    def run(call: Call) -> Any:
        gate.wait()
        try:
            return call()
        except Exception as error:  # an outcome like any other: the test judges it
            return error

    def leave() -> None:
        gate.wait()
        connection.close()

    def both(first: Call, second: Call) -> tuple[Any, Any]:
        one, two = pool.submit(run, first), pool.submit(run, second)
        return one.result(60), two.result(60)

    with ThreadPoolExecutor(2) as pool:
        yield both
        for left in [pool.submit(leave), pool.submit(leave)]:
            left.result(60)
