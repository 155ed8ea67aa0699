"""Aggregate trades, partitioned by environment and UTC day, and the holes in them.

Django makes no partitioned tables: the table is written here, and the state tells Django of the model.
"""

import tradingbot.core.fields
from django.db import migrations, models

ENVIRONMENTS = ("simulator", "testnet", "demo", "live")
FORWARD = """
CREATE TABLE market_trade (
    environment varchar(16) COLLATE "C" NOT NULL,
    symbol varchar(32) COLLATE "C" NOT NULL,
    traded_at timestamptz NOT NULL,
    aggregate_id bigint NOT NULL,
    price numeric(38, 16) NOT NULL,
    quantity numeric(38, 16) NOT NULL,
    buyer_is_maker boolean NOT NULL,
    PRIMARY KEY (environment, symbol, traded_at, aggregate_id),
    CONSTRAINT market_trade_sane CHECK (price > 0 AND quantity > 0)
) PARTITION BY LIST (environment);
""" + "".join(
    f"CREATE TABLE market_trade_{name} PARTITION OF market_trade FOR VALUES IN ('{name}') "
    "PARTITION BY RANGE (traded_at);\n"
    for name in ENVIRONMENTS
)
REVERSE = "DROP TABLE market_trade;"
ENVIRONMENT_CHOICES = [(name, name) for name in ENVIRONMENTS]


class Migration(migrations.Migration):
    dependencies = [("market", "0003_holes_and_attempts")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(FORWARD, REVERSE)],
            state_operations=[
                migrations.CreateModel(
                    name="Trade",
                    fields=[
                        ("pk", models.CompositePrimaryKey("environment", "symbol", "traded_at", "aggregate_id", blank=True, editable=False, primary_key=True, serialize=False)),
                        ("environment", tradingbot.core.fields.EnvironmentField(choices=ENVIRONMENT_CHOICES, db_collation="C", max_length=16)),
                        ("symbol", models.CharField(db_collation="C", max_length=32)),
                        ("traded_at", models.DateTimeField()),
                        ("aggregate_id", models.BigIntegerField()),
                        ("price", tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                        ("quantity", tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                        ("buyer_is_maker", models.BooleanField()),
                    ],
                    options={
                        "constraints": [models.CheckConstraint(condition=models.Q(("price__gt", 0), ("quantity__gt", 0)), name="market_trade_sane")],
                    },
                ),
            ],
        ),
        migrations.CreateModel(
            name="TradeHole",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("environment", tradingbot.core.fields.EnvironmentField(choices=ENVIRONMENT_CHOICES, max_length=16)),
                ("symbol", models.CharField(max_length=32)),
                ("first_id", models.BigIntegerField()),
                ("last_id", models.BigIntegerField()),
                ("reason", models.CharField(choices=[("pending", "to be fetched"), ("exchange", "the exchange does not give them"), ("too_long", "longer than a backfill goes back")], max_length=16)),
                ("found_at", models.DateTimeField()),
                ("filled_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [models.Index(condition=models.Q(("filled_at", None), ("reason", "pending")), fields=["environment", "symbol"], name="market_tradehole_pending")],
                "constraints": [models.CheckConstraint(condition=models.Q(("last_id__gte", models.F("first_id"))), name="market_tradehole_forward")],
            },
        ),
    ]
