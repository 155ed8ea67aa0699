"""`manage.py reconcile`: compare once with the exchange and print what differs; exit 1 while anything does."""

import os
import socket
import time
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from execution import selectors, services
from execution.models import ReconciliationRun
from execution.rules import reporting
from tradingbot.core import clock

WAIT_SECONDS = 60
PAUSE_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Compare our books with the exchange's once, print the run, each open divergence with both records, and "
        "the figures of 48 h. Exit code 1 while a divergence is open, or when the comparison could not be made."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--csv", action="store_true", help="print all divergences as CSV instead")

    def handle(self, *, csv: bool, **_: Any) -> None:
        """Run, print, and say by the exit code whether the books agree."""
        run = self._compare()
        now = clock.now()
        found = selectors.open_divergences()
        if csv:
            self.stdout.write(reporting.csv_of(selectors.all_divergences()), ending="")
        else:
            self._print(run, found, now)
        if run.status == "degraded":
            raise CommandError(f"run {run.pk} is degraded, nothing was concluded: {run.note}")
        if found:
            raise CommandError(f"{len(found)} open. Each has a page: /reconciliation/divergences/<number>/")

    def _compare(self) -> ReconciliationRun:
        """One run of our own; waits while a worker of the desk is at it."""
        holder = f"{socket.gethostname()}:{os.getpid()}:command"
        for _ in range(int(WAIT_SECONDS / PAUSE_SECONDS)):
            run = services.reconcile(
                exchange=services.gateway(), trigger="command", holder=holder, now=clock.now()
            )
            if run is not None:
                return run
            time.sleep(PAUSE_SECONDS)
        raise CommandError(f"another worker has been comparing for {WAIT_SECONDS} s; try again")

    def _print(self, run: ReconciliationRun, found: list[Any], now: datetime) -> None:
        self.stdout.write(
            f"run {run.pk}: {run.status}, {run.orders_compared} orders, {run.fills_compared} fills and "
            f"{run.balances_compared} balances compared, {run.fills_posted} fills posted"
        )
        for divergence in found:
            for line in reporting.lines_of(divergence, now):
                self.stdout.write(line)
        figures = selectors.divergence_figures(now)
        self.stdout.write(
            f"reconciliation_divergences={figures.opened} open={figures.open_now} posted={figures.posted} "
            f"runs={figures.runs} degraded={figures.degraded} agreed_hours={figures.agreed_hours} of 48"
        )
