"""Tables of market data. Written by market.services only."""

import uuid

from django.db import models
from django.db.models import Q

from market.contracts import Interval
from tradingbot.core.fields import AmountField, EnvironmentField


class Instrument(models.Model):
    """A symbol with its filters as last read from exchangeInfo; `raw` keeps what we do not parse."""

    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    base_asset = models.CharField(max_length=16)
    quote_asset = models.CharField(max_length=16)
    status = models.CharField(max_length=24)
    raw = models.JSONField()
    refreshed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "symbol"], name="market_instrument_unique")
        ]

    def __str__(self) -> str:
        return f"{self.symbol} ({self.environment}, {self.status})"


class Candle(models.Model):
    """A closed candle, upserted by open time. Market time: the exchange's own, not our clock."""

    pk = models.CompositePrimaryKey("environment", "symbol", "interval", "open_time")
    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    interval = models.CharField(max_length=4, choices=[(i.value, i.value) for i in Interval])
    open_time = models.DateTimeField()
    close_time = models.DateTimeField()
    open = AmountField()
    high = AmountField()
    low = AmountField()
    close = AmountField()
    volume = AmountField()
    quote_volume = AmountField()
    trade_count = models.BigIntegerField()
    received_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(low__gt=0) & Q(high__gte=models.F("low")) & Q(volume__gte=0),
                name="market_candle_sane",
            )
        ]


class CandleHole(models.Model):
    """Minutes from `start` up to, not including, `end` that no 1m candle is stored of, and why.

    `exchange`: its own klines lack them. `too_long`: the gap was longer than a backfill goes back. `filled_at`
    is set when a later backfill brought every one of them after all.
    """

    class Reason(models.TextChoices):
        EXCHANGE = "exchange", "the exchange has no such candles"
        TOO_LONG = "too_long", "longer than a backfill goes back"

    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    start = models.DateTimeField()
    end = models.DateTimeField()
    reason = models.CharField(max_length=16, choices=Reason)
    found_at = models.DateTimeField()
    filled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "symbol", "start", "end"], name="market_candlehole_unique"
            ),
            models.CheckConstraint(condition=Q(end__gt=models.F("start")), name="market_candlehole_forward"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} ({self.reason})"


class Quote(models.Model):
    """The last best bid and ask of a symbol (at most one write a second; the live one is in Redis)."""

    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    bid = AmountField()
    ask = AmountField()
    bid_quantity = AmountField()
    ask_quantity = AmountField()
    received_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["environment", "symbol"], name="market_quote_unique")]


class Trade(models.Model):
    """An aggregate trade, appended. Partitioned: a part for each environment, and in it one for each UTC day.

    Uniqueness in Postgres must include what a table is partitioned by; the exchange gives a trade one time, so
    that this is unique by symbol and aggregate id. Parts are made by services.partitions and dropped whole.
    """

    pk = models.CompositePrimaryKey("environment", "symbol", "traded_at", "aggregate_id")
    environment = EnvironmentField(db_collation="C")
    symbol = models.CharField(max_length=32, db_collation="C")
    traded_at = models.DateTimeField()
    aggregate_id = models.BigIntegerField()
    price = AmountField()
    quantity = AmountField()
    buyer_is_maker = models.BooleanField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(price__gt=0) & Q(quantity__gt=0), name="market_trade_sane")
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.aggregate_id}: {self.quantity} at {self.price}"


class TradeHole(models.Model):
    """Aggregate trades from `first_id` to `last_id` that the socket did not bring, and what became of them.

    `pending` ones are asked for by REST. `filled_at` is set when that is done; ids that the exchange did not
    give then have rows of their own, which stay open.
    """

    class Reason(models.TextChoices):
        PENDING = "pending", "to be fetched"
        EXCHANGE = "exchange", "the exchange does not give them"
        TOO_LONG = "too_long", "longer than a backfill goes back"

    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    first_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    reason = models.CharField(max_length=16, choices=Reason)
    found_at = models.DateTimeField()
    filled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(last_id__gte=models.F("first_id")), name="market_tradehole_forward"
            )
        ]
        indexes = [
            models.Index(
                fields=["environment", "symbol"],
                condition=Q(reason="pending", filled_at=None),
                name="market_tradehole_pending",
            )
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.first_id} to {self.last_id} ({self.reason})"


class AccountEvent(models.Model):
    """A raw user-data event in order of arrival; append-only but for `folded_at`, set once by execution.

    `sha256` is of the canonical JSON of `payload`: a repeated delivery is not stored twice.
    """

    environment = EnvironmentField()
    event_type = models.CharField(max_length=32)
    event_time = models.DateTimeField()
    received_at = models.DateTimeField()
    payload = models.JSONField()
    sha256 = models.CharField(max_length=64)
    folded_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "sha256"], name="market_accountevent_unique")
        ]
        indexes = [
            models.Index(
                fields=["environment", "id"], condition=Q(folded_at=None), name="market_event_unfolded"
            )
        ]


class FeedSession(models.Model):
    """One connection of one stream: when it began, why it ended, which gap it left and when that was filled."""

    environment = EnvironmentField()
    stream = models.CharField(max_length=32)
    connected_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=200, blank=True)
    message_count = models.BigIntegerField(default=0)
    resynced_at = models.DateTimeField(null=True)
    backfilled_candles = models.IntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["environment", "stream", "-connected_at"])]


class FeedAttempt(models.Model):
    """A connection of a stream that could not be made, with the reason; those that could are sessions."""

    environment = EnvironmentField()
    stream = models.CharField(max_length=32)
    at = models.DateTimeField()
    reason = models.CharField(max_length=200)

    class Meta:
        indexes = [models.Index(fields=["environment", "stream", "-at"])]


class FeedState(models.Model):
    """The present state of a stream (`market`, `account`), written about once a second under the lease's fence.

    `resynced_at` is set when backfill after the last connect is complete; until then the feed counts as stale.
    """

    environment = EnvironmentField()
    stream = models.CharField(max_length=32)
    connected = models.BooleanField(default=False)
    last_message_at = models.DateTimeField(null=True)
    resynced_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField()
    fence = models.BigIntegerField(default=0)
    detail = models.CharField(max_length=200, blank=True)
    messages_last_minute = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "stream"], name="market_feedstate_unique")
        ]


class Snapshot(models.Model):
    """What a decision was made on; immutable. `sha256` is of the canonical JSON of `payload`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    interval = models.CharField(max_length=4)
    as_of = models.DateTimeField()
    payload = models.JSONField()
    sha256 = models.CharField(max_length=64)
    indicator_version = models.CharField(max_length=16)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["environment", "symbol", "-as_of"])]

    def __str__(self) -> str:
        return f"{self.symbol} {self.interval} as of {self.as_of:%Y-%m-%d %H:%M}"
