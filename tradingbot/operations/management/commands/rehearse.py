"""`manage.py rehearse`: seeded market weeks with faults and crashes, judged by the auditor. `make rehearse`."""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, connections

from tradingbot.operations.rehearsal.faults import ALL, SCENARIOS

STEPS_MAX = 10**9
JOBS_MAX = 16


@contextmanager
def scratch_database() -> Iterator[None]:
    """A migrated database of its own, dropped at the end; the desk's own is never touched."""
    kept = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(kept, verbosity=0)


@contextmanager
def clone_for(seed: int) -> Iterator[None]:
    """A fresh copy of the scratch database for one seed."""
    template = connection.settings_dict["NAME"]
    connections.close_all()
    connection.creation.clone_test_db(suffix=f"seed{seed}", verbosity=0, autoclobber=True)
    name = connection.creation.get_test_db_clone_settings(f"seed{seed}")["NAME"]
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connections.close_all()
        connection.settings_dict["NAME"] = template
        connection.creation.destroy_test_db(suffix=f"seed{seed}", verbosity=0, keepdb=False)


@dataclass(frozen=True, slots=True)
class Task:
    """One seed to live, in the process that takes it; `database` is the scratch one that it copies."""

    seed: int
    days: float
    intensity: float
    replay: Path | None
    until: int
    scenario: str
    database: str


def rehearse(task: Task) -> Any:
    """Live one seed in a database of its own: its Report, or the words of the invariant that broke."""
    django.setup()
    from tradingbot.operations.rehearsal.world import InvariantBroken, World

    connection.settings_dict["NAME"] = task.database
    world = World(
        seed=task.seed,
        days=task.days,
        intensity=task.intensity,
        replay=task.replay,
        until=task.until,
        scenario=task.scenario,
    )
    try:
        with clone_for(task.seed):
            return world.run()
    except InvariantBroken as error:
        return f"{error}\n  repeat: rehearse {_options(task)} --seed {task.seed} --until {world.step}"


def _options(task: Task) -> str:
    """What must be the same for a failure to come again."""
    words = [f"--days {task.days:g}"]
    words += [f"--data {task.replay}"] if task.replay else []
    words += [f"--intensity {task.intensity:g}"] if task.intensity != 1 else []
    words += [f"--scenario {task.scenario}"] if task.scenario != ALL else []
    return " ".join(words)


class Command(BaseCommand):
    help = "Rehearse seeded market days with faults and crashes; exits 1 unless nothing is lost or doubled."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=float, default=7.0)
        parser.add_argument("--seeds", type=int, default=20, help="how many, from --first-seed on")
        parser.add_argument("--first-seed", type=int, default=1)
        parser.add_argument("--seed", type=int, help="one seed only, to repeat a failure")
        parser.add_argument("--until", type=int, default=STEPS_MAX, help="stop after this step")
        parser.add_argument(
            "--data", type=Path, help="a candle file to replay instead of the generated market"
        )
        parser.add_argument("--intensity", type=float, default=1.0, help="scales the chance of every fault")
        parser.add_argument(
            "--scenario",
            default=ALL,
            choices=SCENARIOS,
            metavar="NAME",
            help=f"one of {', '.join(SCENARIOS)}",
        )
        parser.add_argument("--jobs", type=int, default=1, help="seeds that are lived side by side")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["data"] is not None and not options["data"].is_file():
            raise CommandError(f"--data {options['data']} is not a file")
        if not 1 <= options["jobs"] <= JOBS_MAX:
            raise CommandError(f"--jobs must be 1 to {JOBS_MAX}")
        first = options["first_seed"]
        seeds = [options["seed"]] if options["seed"] is not None else range(first, first + options["seeds"])
        began = time.monotonic()
        reports: list[Any] = []
        failures: list[str] = []
        with scratch_database():
            tasks = [self._task(seed, options) for seed in seeds]
            for task, outcome in zip(tasks, self._lived(tasks, options["jobs"]), strict=True):
                self._take(task, outcome, reports, failures)
        self._summary(len(tasks), reports, failures, time.monotonic() - began)
        if failures or any(r.duplicates or r.lost or r.unexplained for r in reports):
            raise SystemExit(1)

    @staticmethod
    def _task(seed: int, options: dict[str, Any]) -> Task:
        return Task(
            seed=seed,
            days=options["days"],
            intensity=options["intensity"],
            replay=options["data"],
            until=options["until"],
            scenario=options["scenario"],
            database=connection.settings_dict["NAME"],
        )

    @staticmethod
    def _lived(tasks: list[Task], jobs: int) -> Iterator[Any]:
        """Outcomes in the order of the seeds; with several jobs each seed has a process and a database."""
        if jobs == 1 or len(tasks) == 1:
            yield from map(rehearse, tasks)
            return
        connections.close_all()  # a database that somebody is connected to cannot be copied
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=fresh) as pool:
            yield from pool.map(rehearse, tasks)

    def _take(self, task: Task, outcome: Any, reports: list[Any], failures: list[str]) -> None:
        from tradingbot.operations.rehearsal.report import line_of

        if isinstance(outcome, str):
            failures.append(outcome)
            self.stdout.write(f"FAILED {outcome}")
            return
        reports.append(outcome)
        self.stdout.write(line_of(outcome))
        if outcome.market_days >= 1 and not outcome.orders:
            failures.append("nothing was ordered")
            self.stdout.write(
                f"FAILED seed {task.seed} ordered nothing in {outcome.market_days:.1f} days: something blocks it"
            )

    def _summary(self, seeds: int, reports: list[Any], failures: list[str], wall_seconds: float) -> None:
        from tradingbot.operations.rehearsal.report import summary

        for line in summary(reports, seeds=seeds, failed=len(failures), wall_seconds=wall_seconds):
            self.stdout.write(line)
