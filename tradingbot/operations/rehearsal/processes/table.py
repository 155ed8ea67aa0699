"""`python -m tradingbot.operations.rehearsal.processes.table`: the launcher with the table of this rehearsal.

The product's own process table with a second trading worker, so that two compete for every order and one is
there while the other is started again; each part reaches the exchange over a wire of its own.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from tradingbot.launcher.__main__ import main
from tradingbot.launcher.stack import PRODUCT, Process, Stack

WIRES_SETTING = "REHEARSAL_WIRES"
TRADING, TRADING_2 = "trading", "trading-2"
PARTS = tuple(sorted([process.name for process in PRODUCT.processes] + [TRADING_2]))


def rehearsed_stack(wires: Mapping[str, int]) -> Stack:
    """The table in which each part finds the exchange at its own port of `wires`."""
    trading = next(process for process in PRODUCT.processes if process.name == TRADING)
    second = replace(
        trading,
        name=TRADING_2,
        command=tuple(word.replace(f"{TRADING}@", f"{TRADING_2}@") for word in trading.command),
    )
    order = tuple(
        ((*names, TRADING_2) if TRADING in names else names, seconds) for names, seconds in PRODUCT.stop_order
    )
    processes = tuple(_wired(process, wires[process.name]) for process in (*PRODUCT.processes, second))
    return replace(PRODUCT, processes=processes, stop_order=order)


def _wired(process: Process, port: int) -> Process:
    return replace(process, env={**process.env, "SIMULATOR_URL": f"http://127.0.0.1:{port}"})


if __name__ == "__main__":
    sys.exit(main(["run"], rehearsed_stack(json.loads(os.environ[WIRES_SETTING]))))
