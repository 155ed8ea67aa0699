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
from tradingbot.launcher.stack import PRODUCT, Stack

WIRES_SETTING = "REHEARSAL_WIRES"
TRADING, TRADING_2 = "trading", "trading-2"
PARTS = tuple(sorted([process.name for process in PRODUCT.processes] + [TRADING_2]))


def rehearsed_stack() -> Stack:
    """The table of this rehearsal."""
    trading = next(process for process in PRODUCT.processes if process.name == TRADING)
    second = replace(
        trading,
        name=TRADING_2,
        command=tuple(word.replace(f"{TRADING}@", f"{TRADING_2}@") for word in trading.command),
    )
    order = tuple(
        ((*names, TRADING_2) if TRADING in names else names, seconds) for names, seconds in PRODUCT.stop_order
    )
    return replace(PRODUCT, processes=(*PRODUCT.processes, second), stop_order=order)


def wired(stack: Stack, wires: Mapping[str, int]) -> Stack:
    """`stack` with each part finding the exchange at its own port of `wires`."""
    processes = tuple(
        replace(process, env={**process.env, "SIMULATOR_URL": f"http://127.0.0.1:{wires[process.name]}"})
        for process in stack.processes
    )
    return replace(stack, processes=processes)


if __name__ == "__main__":
    sys.exit(main(["run"], wired(rehearsed_stack(), json.loads(os.environ[WIRES_SETTING]))))
