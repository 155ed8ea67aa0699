"""`manage.py rehearse_processes`: real processes killed while orders flow. `make rehearse-processes`."""

import os
import time
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tradingbot.operations.rehearsal.processes.product import NotInTime, running_product
from tradingbot.operations.rehearsal.processes.rehearsal import Rehearsal, Report

FAULTS_SHOWN_MAX = 40


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f"{text} is not above 0")
    return value


class Command(BaseCommand):
    help = (
        "Start the whole product privately, kill its processes while orders flow, restart Redis and Postgres, "
        "break connections; exits 1 unless nothing is lost, doubled or unexplained and all kills were done."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--kills", type=_positive, default=200)
        parser.add_argument("--seed", type=int, default=1, help="of the blows and of the market")
        parser.add_argument("--minutes", type=float, default=25, help="end the killing after this time")
        parser.add_argument("--speed", type=_positive, default=10, help="market seconds per second")
        parser.add_argument("--logs", type=Path, help="a folder to keep the logs of the parts in")

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        self.stdout.write(f"load {_load()} before")
        try:
            with running_product(
                seed=options["seed"], speed=options["speed"], keep=options["logs"]
            ) as product:
                self._say(f"ready after {time.monotonic() - began:.0f} s")
                rehearsal = Rehearsal(
                    product,
                    seed=options["seed"],
                    kills=options["kills"],
                    minutes_max=options["minutes"],
                    say=self._say,
                )
                report = rehearsal.run()
        except NotInTime as error:
            raise CommandError(f"the rehearsal came to no end: {error}") from error
        self._tell(report, time.monotonic() - began)
        verdict = report.verdict
        assert verdict is not None
        killed = report.kills.total()
        unexplained = len(verdict.complaints) + len(report.unsettled)
        self.stdout.write(
            f"processes: kills={killed} orders={verdict.orders} redis={report.redis.total()} "
            f"postgres={report.postgres.total()} cuts={report.cuts.total()} duplicates={verdict.duplicates} "
            f"lost={verdict.lost} unexplained={unexplained} manual_review={verdict.manual_reviews}"
        )
        if killed < options["kills"] or verdict.duplicates or verdict.lost or unexplained:
            raise SystemExit(1)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _tell(self, report: Report, seconds: float) -> None:
        for title, counter in (
            ("kills", report.kills),
            ("moments", report.moments),
            ("redis", report.redis),
            ("postgres", report.postgres),
            ("wires", report.cuts),
            ("operator", report.answers),
            ("ended by themselves", report.fell_by_itself),
            ("tracebacks in the logs", report.complaints_of_logs),
        ):
            self.stdout.write(
                f"{title}: {', '.join(f'{n} {name}' for name, n in counter.most_common()) or '-'}"
            )
        for note in report.notes:
            self.stdout.write(note)
        if report.verdict is not None:
            for complaint in [*report.unsettled, *report.verdict.complaints][:FAULTS_SHOWN_MAX]:
                self.stdout.write(f"WRONG {complaint}")
        self.stdout.write(
            f"{seconds:.0f} s in all, {report.blows_seconds:.0f} of them under blows, "
            f"{report.rest_seconds:.0f} to come to rest; load {_load()} after"
        )


def _load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())
