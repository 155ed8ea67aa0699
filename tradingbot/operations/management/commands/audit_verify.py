"""`manage.py audit_verify`: recompute the audit chain and name its first broken link."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tradingbot.core import audit
from tradingbot.core.models import AuditHead, AuditRecord


class Command(BaseCommand):
    help = (
        "Recompute the hash chain of the audit log; exit code 1 and the first broken link when it is broken."
    )

    def handle(self, **_: Any) -> None:
        """Print how many links hold, or what is wrong with which."""
        broken = audit.first_broken_link()
        if broken is not None:
            sequence, problem = broken
            raise CommandError(f"audit chain broken at link {sequence}: {problem}")
        outside = AuditRecord.objects.filter(sequence__isnull=True).count()
        if outside:
            raise CommandError(f"audit chain broken: {outside} rows were written past it")
        links = AuditRecord.objects.filter(sequence__isnull=False).count()
        head = AuditHead.objects.first()
        if (head.sequence if head else 0) != links:
            raise CommandError(f"audit chain broken at link {links + 1}: the end of the chain is missing")
        self.stdout.write(f"audit chain holds: {links} links")
