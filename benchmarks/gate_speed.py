"""The gate per proposal: all rules over an account with 50 positions, alone and as the worker runs it."""

import json

from benchmarks.execution_books import run_python, servers
from benchmarks.figures import Figure, figure


def measure() -> list[Figure]:
    """On a durable PostgreSQL and a Redis of their own, in one process."""
    with servers() as env:
        run_python(["manage.py", "migrate", "--noinput", "-v", "0"], env)
        found = json.loads(run_python(["-m", "benchmarks.gate_inside"], env).splitlines()[-1])
    print(f"gate: {found['rules']} rules, {found['positions']} positions, every proposal passed all of them")
    return [
        figure(
            "gate, all rules over 50 positions (pure)",
            found["pure"],
            baseline=("the input as canonical JSON with its SHA-256", found["json"]),
        ),
        figure(
            "gate per proposal: books read, judged, stored, committed",
            found["whole"],
            baseline=("lock, write and commit that proposal and an audit row", found["transaction"]),
        ),
    ]
