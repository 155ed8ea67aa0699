"""Rows as a CSV file that no spreadsheet can take for formulas."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def safe_cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula: a leading quote before `= + - @` unless it is a number."""
    text = "" if value is None else str(value)
    if text[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"} and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def csv_of(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """`rows` as CSV (RFC 4180) below a header; every cell is safe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(safe_cell(value) for value in row)
    return text.getvalue()
