"""Tables of the ground floor: audit chain, alerts, leases, heartbeats."""

from django.db import models
from django.db.models import Q


class AuditRecord(models.Model):
    """One link of the hash chain. `sequence` and the hashes are set by the database as it commits.

    hash = sha256(previous hash || body); `body` is the canonical JSON of the other columns and the payload,
    so an export of (body, hash) can be verified without this database. Triggers refuse every other change.
    """

    sequence = models.BigIntegerField(null=True, unique=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=64)
    action = models.CharField(max_length=64)
    subject = models.CharField(max_length=96)
    body = models.TextField()
    previous_hash = models.BinaryField(null=True)
    hash = models.BinaryField(null=True)

    class Meta:
        indexes = [models.Index(fields=["subject", "id"])]

    def __str__(self) -> str:
        return f"{self.action} {self.subject} by {self.actor}"


class AuditHead(models.Model):
    """The one row that holds the end of the chain; locked by the trigger at commit."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    sequence = models.BigIntegerField(default=0)
    hash = models.BinaryField(default=bytes(32))

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="core_audithead_one_row")]


class Alert(models.Model):
    """A condition that a person must know of. One open row per `dedupe_key`; repeats raise `count`."""

    class Severity(models.TextChoices):
        CRITICAL = "critical"
        HIGH = "high"
        INFO = "info"

    kind = models.CharField(max_length=48)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    subject = models.CharField(max_length=96, blank=True)
    title = models.CharField(max_length=200)
    detail = models.TextField(blank=True)
    dedupe_key = models.CharField(max_length=160)
    count = models.PositiveIntegerField(default=1)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=64, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["dedupe_key"], condition=Q(resolved_at__isnull=True), name="core_alert_one_open"
            )
        ]
        indexes = [models.Index(fields=["resolved_at", "-last_seen_at"])]

    def __str__(self) -> str:
        return f"{self.severity}: {self.title}"


class Lease(models.Model):
    """A right held by one process at a time. `fence` rises at each takeover; every write checks it."""

    name = models.CharField(primary_key=True, max_length=64)
    holder = models.CharField(max_length=128)
    fence = models.BigIntegerField(default=1)
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} held by {self.holder} (fence {self.fence})"


class Heartbeat(models.Model):
    """The last sign of life of a part (`queue:trading`, `stream:market`), with what it had to say."""

    part = models.CharField(primary_key=True, max_length=64)
    beat_at = models.DateTimeField()
    detail = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.part} at {self.beat_at:%H:%M:%S}"
