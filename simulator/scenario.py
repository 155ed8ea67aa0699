"""Scenario files: a timetable of faults in TOML.

clock = "market"            # or "wall", the default: seconds since the server's start

[[fault]]
at = 60                     # seconds
every = 30                  # optional: again and again
times = 200                 # how often; optional with `every`
jitter = 5                  # up to so many seconds later, drawn with `seed`
seed = 7
kind = "close_ws"
path = "/ws"
close_code = 1006
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from simulator.faults import parse_fault

CLOCKS = ("wall", "market")
ENTRIES_MAX = 100_000
TIMING = {"at", "every", "times", "jitter", "seed"}


class ScenarioError(Exception):
    """The file cannot be used; the text names it and the entry."""


@dataclass(slots=True, frozen=True)
class Entry:
    """A fault and its time in seconds since the start."""

    at_seconds: float
    fault: dict[str, Any]


@dataclass(slots=True, frozen=True)
class Scenario:
    """Entries in the order of their times; `on_market_time` says which clock counts the seconds."""

    on_market_time: bool
    entries: tuple[Entry, ...]


def read_scenario(path: Path) -> Scenario:
    """Read and check a scenario file whole. Raises ScenarioError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: is not TOML: {error}") from None
    clock, faults = document.pop("clock", "wall"), document.pop("fault", [])
    if document or clock not in CLOCKS or not isinstance(faults, list):
        raise ScenarioError(
            f'{path}: may hold clock = "wall" or "market" and [[fault]] entries, nothing else'
        )
    entries: list[Entry] = []
    for number, values in enumerate(faults, 1):
        try:
            entries += _entries(values)
        except ValueError as error:
            raise ScenarioError(f"{path}: fault {number}: {error}") from None
    if len(entries) > ENTRIES_MAX:
        raise ScenarioError(f"{path}: {len(entries)} occasions, at most {ENTRIES_MAX} are possible")
    return Scenario(clock == "market", tuple(sorted(entries, key=lambda entry: entry.at_seconds)))


def _entries(values: Any) -> list[Entry]:
    if not isinstance(values, dict):
        raise ValueError("must be a table")
    timing = {name: values.get(name) for name in TIMING}
    for name, value in timing.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ValueError(f"{name} must be a number that is not negative, not {value!r}")
    if timing["at"] is None:
        raise ValueError("at (seconds) is missing")
    every = float(timing["every"] or 0)
    # A fault sends a message `times` times; beside `every` the word means how often the entry comes back.
    own = TIMING - {"seed"} if every else TIMING - {"seed", "times"}
    fault = {name: value for name, value in values.items() if name not in own}
    parse_fault(fault)
    if not every:
        occasions = 1
    elif timing["times"] is None:
        raise ValueError("every needs times")
    else:
        occasions = int(timing["times"])
    if occasions > ENTRIES_MAX:
        raise ValueError(f"times must be at most {ENTRIES_MAX}")
    random, jitter = Random(int(timing["seed"] or 0)), float(timing["jitter"] or 0)
    start = float(timing["at"])
    return [Entry(start + every * index + random.random() * jitter, fault) for index in range(occasions)]
