"""Tables of the ground floor: audit chain, alerts and their delivery, leases, heartbeats."""

from django.db import models
from django.db.models import F, Q


class AuditRecord(models.Model):
    """One link of the hash chain. `sequence` and the hashes are set by the database as it commits.

    hash = sha256(previous hash || body); `body` is the canonical JSON of the other columns and the payload,
    so an export of (body, hash) can be verified without this database. Triggers refuse every other change.
    """

    sequence = models.BigIntegerField(null=True, unique=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
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
    # How often people were to be told: raised, become worse, back after it was acknowledged.
    round = models.PositiveIntegerField(default=1)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
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


class AlertNotice(models.Model):
    """The outbox: people have yet to be told of this round of an alert. Written in the alert's transaction.

    The alerts worker makes a delivery of it for each channel (`planned_at`); `fate` says why it made none.
    """

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notices")
    round = models.PositiveIntegerField()
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    planned_at = models.DateTimeField(null=True)
    escalated_at = models.DateTimeField(null=True)
    fate = models.CharField(max_length=120, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["alert", "round"], name="core_alertnotice_once_a_round")
        ]
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(planned_at__isnull=True), name="core_alertnotice_waiting"
            )
        ]

    def __str__(self) -> str:
        return f"alert {self.alert_id}, round {self.round}"


class AlertChannel(models.Model):
    """A way to people. The address is a secret: it lies in a file of its own (`secret_name`), never here."""

    class Kind(models.TextChoices):
        APPRISE = "apprise", "service (Apprise)"
        WEB_PUSH = "webpush", "browser (Web Push)"

    name = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.APPRISE)
    secret_name = models.CharField(max_length=64, unique=True)
    service = models.CharField(max_length=60, blank=True)
    severity_min = models.CharField(
        "tells of", max_length=8, choices=Alert.Severity.choices, default=Alert.Severity.HIGH
    )
    is_backup = models.BooleanField(
        "second channel",
        default=False,
        help_text="Told when a first channel fails, or when nobody acknowledges a critical alert in time.",
    )
    enabled = models.BooleanField(default=True)
    owner = models.CharField(max_length=150, blank=True)
    endpoint_sha256 = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint_sha256"],
                condition=~Q(endpoint_sha256=""),
                name="core_alertchannel_device_once",
            )
        ]
        permissions = [("test_alertchannel", "Can send a test alert")]

    def __str__(self) -> str:
        return self.name


class AlertDelivery(models.Model):
    """One notice on its way through one channel, and its receipt. Without a notice it is a test."""

    notice = models.ForeignKey(AlertNotice, null=True, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="deliveries")
    requested_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    claimed_until = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    last_attempt_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)
    sent_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "alert deliveries"
        constraints = [
            models.UniqueConstraint(fields=["notice", "channel"], name="core_alertdelivery_once_a_channel")
        ]
        indexes = [
            models.Index(
                fields=["due_at"],
                condition=Q(sent_at__isnull=True, given_up_at__isnull=True),
                name="core_alertdelivery_waiting",
            ),
            models.Index(fields=["channel", "-created_at"]),
        ]

    def __str__(self) -> str:
        return f"delivery {self.pk} by channel {self.channel_id}"


class AlertSilence(models.Model):
    """Until `ends_at` nobody is told of the alerts that match; the page goes on showing them."""

    kind = models.CharField(max_length=48, blank=True)
    severity = models.CharField(max_length=8, choices=Alert.Severity.choices, blank=True)
    subject = models.CharField(max_length=96, blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=200)
    created_by = models.CharField(max_length=150)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(ends_at__gte=F("starts_at")), name="core_alertsilence_ends"),
            models.CheckConstraint(
                condition=~Q(kind="") | ~Q(subject=""), name="core_alertsilence_names_something"
            ),
        ]
        indexes = [models.Index(fields=["ends_at"])]

    def __str__(self) -> str:
        return f"silence {self.pk} until {self.ends_at:%Y-%m-%d %H:%M}"


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
