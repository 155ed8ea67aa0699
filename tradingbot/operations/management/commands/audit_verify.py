"""`manage.py audit_verify`: recompute the audit chain, hold it against its anchors, name the first broken link."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from tradingbot.core import anchors, audit

# One statement, which sees one instant: the desk goes on writing links meanwhile.
_COUNTED = """
SELECT count(*) FILTER (WHERE sequence IS NULL), count(*) FILTER (WHERE sequence IS NOT NULL),
       coalesce((SELECT sequence FROM core_audithead), 0)
FROM core_auditrecord
"""


class Command(BaseCommand):
    help = (
        "Recompute the hash chain of the audit log and hold it against its daily anchors; "
        "exit code 1 and the first broken link when it is broken."
    )

    def handle(self, **_: Any) -> None:
        """Print how many links hold, or what is wrong with which."""
        broken = audit.first_broken_link()
        if broken is not None:
            sequence, problem = broken
            raise CommandError(f"audit chain broken at link {sequence}: {problem}")
        outside, links, head = _counted()
        if outside:
            raise CommandError(f"audit chain broken: {outside} rows were written past it")
        if links > head:
            raise CommandError(f"audit chain broken at link {head + 1}: it was written past the chain's end")
        if head > links:
            raise CommandError(f"audit chain broken at link {links + 1}: the end of the chain is missing")
        try:
            held = anchors.verify(Path(settings.AUDIT_ANCHORS_DIR))
        except anchors.AnchorBroken as error:
            raise CommandError(f"audit chain broken: {error}") from error
        since = f", {len(held)} anchors, the last of {held[-1].at}" if held else ", no anchor yet"
        self.stdout.write(f"audit chain holds: {links} links{since}")


def _counted() -> tuple[int, int, int]:
    """Rows past the chain, links of the chain, and how many its head says there are."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED)
        outside, links, head = cursor.fetchone()
    return outside, links, head
