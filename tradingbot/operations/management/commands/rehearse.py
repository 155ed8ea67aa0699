"""`manage.py rehearse`: seeded market weeks with faults and crashes, judged by the auditor. `make rehearse`."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, connections

from tradingbot.operations.rehearsal.world import InvariantBroken, Report, World

STEPS_MAX = 10**9


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

    def handle(self, *args: Any, **options: Any) -> None:
        if options["data"] is not None and not options["data"].is_file():
            raise CommandError(f"--data {options['data']} is not a file")
        first = options["first_seed"]
        seeds = [options["seed"]] if options["seed"] is not None else range(first, first + options["seeds"])
        reports: list[Report] = []
        failures: list[str] = []
        with scratch_database():
            for seed in seeds:
                self._rehearse(seed, options, reports, failures)
        self._summary(len(seeds), reports, failures)
        if failures or any(r.duplicates or r.lost or r.unexplained for r in reports):
            raise SystemExit(1)

    def _rehearse(
        self, seed: int, options: dict[str, Any], reports: list[Report], failures: list[str]
    ) -> None:
        started = time.monotonic()
        world = World(
            seed=seed,
            days=options["days"],
            intensity=options["intensity"],
            replay=options["data"],
            until=options["until"],
        )
        try:
            with clone_for(seed):
                report = world.run()
        except InvariantBroken as error:
            failures.append(str(error))
            self.stdout.write(f"FAILED {error}\n  repeat: rehearse --seed {seed} --until {world.step}")
            return
        reports.append(report)
        if report.market_days >= 1 and not report.orders:
            failures.append(
                f"seed {seed} ordered nothing in {report.market_days:.1f} days: something blocks it"
            )
        self.stdout.write(
            f"seed {seed}: {report.market_days:.1f} days, {report.orders} orders, "
            f"{sum(report.faults.values())} faults, {report.crashes} crashes, {dict(report.statuses)}, "
            f"{time.monotonic() - started:.0f} s"
        )

    def _summary(self, seeds: int, reports: list[Report], failures: list[str]) -> None:
        faults: Counter[str] = sum((r.faults for r in reports), Counter())
        statuses: Counter[str] = sum((r.statuses for r in reports), Counter())
        settled: Counter[str] = sum((r.divergences_settled for r in reports), Counter())
        self.stdout.write(f"faults by kind: {dict(faults.most_common())}")
        self.stdout.write(f"orders by state: {dict(statuses)}; divergences settled: {dict(settled)}")
        lists: Counter[str] = sum((r.lists for r in reports), Counter())
        self.stdout.write(
            f"order lists by kind: {dict(lists)}; without protection: {sum(r.gaps for r in reports)} times, "
            f"{sum(r.seconds_unprotected for r in reports):.0f} s"
        )
        self.stdout.write(
            f"rehearsal: seeds={seeds} "
            f"market_days={sum(r.market_days for r in reports):.1f} orders={sum(r.orders for r in reports)} "
            f"faults={sum(faults.values())} duplicates={sum(r.duplicates for r in reports)} "
            f"lost={sum(r.lost for r in reports)} "
            f"unexplained={sum(r.unexplained for r in reports) + len(failures)} "
            f"manual_review={sum(r.manual_reviews for r in reports)}"
        )
