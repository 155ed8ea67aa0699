"""The lines that a rehearsal tells."""

from collections import Counter

import pytest

from tradingbot.operations.rehearsal.report import Report, summary

GOOD = Report(
    seed=1,
    market_days=7.0,
    orders=40,
    faults=Counter({"drop_answer": 3, "crash before commit": 2}),
    unknowns=Counter({"user stream": 2, "conclusive absence": 1}),
    reviews=Counter({"no proof by the deadline": 1}),
    seconds_unprotected=12.0,
    gaps=2,
)


def test_last_line_has_every_figure_that_scripts_read() -> None:
    lines = summary([GOOD, GOOD], seeds=2, failed=0, wall_seconds=1.0)

    assert lines[-1] == (
        "rehearsal: seeds=2 market_days=14.0 orders=80 faults=10 duplicates=0 lost=0 unexplained=0 manual_review=2"
    )


def test_a_seed_that_broke_an_invariant_counts_as_unexplained() -> None:
    lines = summary([GOOD], seeds=2, failed=1, wall_seconds=1.0)

    assert "unexplained=1 " in lines[-1]


@pytest.mark.parametrize(
    "words",
    [
        "drop_answer 6, crash before commit 4",
        "user stream 4, conclusive absence 2",
        "handed to a person: no proof by the deadline 2",
        "without protection: 4 times, 24 s",
    ],
)
def test_lines_above_add_the_seeds_up_by_kind(words: str) -> None:
    assert words in "\n".join(summary([GOOD, GOOD], seeds=2, failed=0, wall_seconds=1.0))
