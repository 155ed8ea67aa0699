"""A tiny product for the launcher to run: real servers and processes, stand-ins for the product's own.

`python -m tests.launcher.standin run` starts it; tests.launcher.standin_parts says what can go wrong.
"""

import sys

from tradingbot.launcher.__main__ import main
from tradingbot.launcher.stack import Process, Stack, Step

PART = ("{python}", "-m", "tests.launcher.standin_parts")

STACK = Stack(
    outside=(
        Process(
            "simulator",
            (*PART, "serve", "{simulator_port}", "{data}"),
            ready_url="{simulator_url}/api/v3/ping",
            only_if="{runs_simulator}",
        ),
    ),
    steps=(Step("migrate", (*PART, "migrate")),),
    processes=(
        Process("web", (*PART, "serve", "{port}", "{data}")),
        Process("worker", (*PART, "worker")),
        Process("beat", (*PART, "idle")),
    ),
    ready_url="{web_url}/readyz",
    ready_seconds_max=3,
    stop_order=(
        (("beat",), 1),
        (("worker",), 1),
        (("web",), 1),
        (("simulator",), 1),
        (("redis",), 1),
        (("postgres",), 3),
    ),
)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], STACK))
