"""Events folded, a reconciliation of 10,000 orders with 50,000 fills, and the rehearsal's market days a minute."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.figures import CouldNotMeasure, Figure
from benchmarks.machine import ROOT
from benchmarks.stack import NOT_INHERITED, temporary_folder
from tradingbot.launcher import processes
from tradingbot.launcher.postgres_server import PostgresServer
from tradingbot.launcher.redis_server import RedisServer

SECONDS_MAX = 900
STOP_SECONDS = 10
SEED_LINE = re.compile(r"^seed \d+: ([\d.]+) days, (\d+) orders, (\d+) faults, .* (\d+) s$", re.MULTILINE)


@contextlib.contextmanager
def servers() -> Iterator[dict[str, str]]:
    """A durable PostgreSQL and a Redis of their own, as the product has them, and the environment to use them."""
    with temporary_folder() as folder:
        postgres = PostgresServer(folder, folder / "postgres.log")
        redis = RedisServer(folder, folder / "redis.log")
        started = []
        try:
            started.append(postgres.start())
            started.append(redis.start())
            kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
            yield kept | {
                "DATABASE_URL": postgres.url,
                "REDIS_URL": redis.url,
                "SECRET_KEY": "benchmark-not-a-secret",
                "TRADING_ENABLED": "true",
                "TRADING_ENVIRONMENT": "simulator",
                "DJANGO_SETTINGS_MODULE": "tradingbot.settings",
            }
        finally:
            processes.stop(started, STOP_SECONDS)


def run_python(command: list[str], env: dict[str, str]) -> str:
    """What a command of ours printed; CouldNotMeasure when it failed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise CouldNotMeasure(f"{' '.join(command)}: {done.stderr.strip()[-600:]}")
    return done.stdout


def measure() -> list[Figure]:
    """Each on its own servers, one after the other."""
    with servers() as env:
        run_python(["manage.py", "migrate", "--noinput", "-v", "0"], env)
        found = json.loads(run_python(["-m", "benchmarks.execution_inside"], env).splitlines()[-1])
    for note in found["notes"]:
        print(note)
    figures = [Figure(row["name"], row["n"], row["value"], None, row["unit"]) for row in found["figures"]]
    return [*figures, rehearsal_speed()]


def rehearsal_speed() -> Figure:
    """Market days a minute of the seeded rehearsal with all its faults; the servers' start is not counted."""
    database = ROOT / "manage.py"
    command = [
        sys.executable,
        "-m",
        "tradingbot.launcher",
        "with-servers",
        "--",
        sys.executable,
        str(database),
    ]
    done = subprocess.run(
        [*command, "rehearse", "--days", "1", "--seeds", "1", "--first-seed", "7"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        | {"TRADING_ENABLED": "true"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    told = SEED_LINE.search(done.stdout)
    if done.returncode != 0 or told is None:
        raise CouldNotMeasure(
            f"the rehearsal ended with {done.returncode}: {done.stdout[-300:]} {done.stderr[-300:]}"
        )
    days, orders, faults, seconds = float(told[1]), told[2], told[3], int(told[4])
    print(f"rehearsal: {days} market days, {orders} orders, {faults} faults in {seconds} s")
    return Figure("rehearsal: market days a minute", 1, days / max(seconds, 1) * 60, None, "days")
