"""Lots, closings and the equity curve; what was already traded is booked into lots anew."""

from collections import defaultdict

import django.db.models.deletion
import tradingbot.core.fields
from django.db import migrations, models

from execution.rules import accounting
from tradingbot.core.decimals import ZERO


def book_what_was_traded(apps, schema_editor):
    Fill, Lot, Closing, Position = (
        apps.get_model("execution", name) for name in ("Fill", "Lot", "LotClosing", "Position")
    )
    fills = defaultdict(list)
    for fill in Fill.objects.order_by("at", "trade_id"):
        fills[fill.environment, fill.symbol].append(fill)
    for position in Position.objects.all():
        rows = {(f.at, f.trade_id): f for f in fills[position.environment, position.symbol]}
        lots, closings = accounting.replay(
            [],
            [
                accounting.Trade(
                    key=key,
                    side=f.side,
                    quantity=f.quantity,
                    quote_quantity=f.quote_quantity,
                    commission_base=f.commission if f.commission_asset == position.base_asset else ZERO,
                    commission_quote=f.commission_quote,
                )
                for key, f in rows.items()
            ],
        )
        where = {"environment": position.environment, "symbol": position.symbol}
        for lot in lots:
            at, trade_id = lot.key
            Lot.objects.create(
                fill=rows[lot.key], at=at, trade_id=trade_id, quantity=lot.quantity, cost_quote=lot.cost_quote,
                quantity_left=lot.quantity_left, cost_left_quote=lot.cost_left_quote, **where,
            )  # fmt: skip
        for closing in closings:
            at, trade_id = closing.sale
            Closing.objects.create(
                sale=rows[closing.sale], lot_id=rows[closing.lot].pk if closing.lot else None, at=at,
                trade_id=trade_id, quantity=closing.quantity, proceeds_quote=closing.proceeds_quote,
                cost_quote=closing.cost_quote, realised_pnl_quote=closing.realised_quote, **where,
            )  # fmt: skip
        position.quantity = sum((lot.quantity_left for lot in lots), ZERO)
        position.cost_quote = sum((lot.cost_left_quote for lot in lots), ZERO)
        position.realised_pnl_quote = sum((c.realised_quote for c in closings), ZERO)
        position.save()


class Migration(migrations.Migration):

    dependencies = [
        ('execution', '0002_append_only'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='fill',
            name='realised_pnl_quote',
        ),
        migrations.CreateModel(
            name='EquityPoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('environment', tradingbot.core.fields.EnvironmentField(choices=[('simulator', 'simulator'), ('testnet', 'testnet'), ('demo', 'demo'), ('live', 'live')], max_length=16)),
                ('at', models.DateTimeField()),
                ('equity_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('cash_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('realised_pnl_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('unrealised_pnl_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('fees_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('net_flow_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('environment', 'at'), name='execution_equity_point_unique')],
            },
        ),
        migrations.CreateModel(
            name='Lot',
            fields=[
                ('fill', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, serialize=False, to='execution.fill')),
                ('environment', tradingbot.core.fields.EnvironmentField(choices=[('simulator', 'simulator'), ('testnet', 'testnet'), ('demo', 'demo'), ('live', 'live')], max_length=16)),
                ('symbol', models.CharField(max_length=32)),
                ('at', models.DateTimeField()),
                ('trade_id', models.BigIntegerField()),
                ('quantity', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('cost_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('quantity_left', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('cost_left_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('quantity_left__gt', 0)), fields=['environment', 'symbol', 'at'], name='execution_lot_open'), models.Index(fields=['environment', 'symbol', 'at', 'trade_id'], name='execution_l_environ_7ac461_idx')],
                'constraints': [models.CheckConstraint(condition=models.Q(('quantity_left__gte', 0), ('quantity_left__lte', models.F('quantity'))), name='execution_lot_sane')],
            },
        ),
        migrations.CreateModel(
            name='LotClosing',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('environment', tradingbot.core.fields.EnvironmentField(choices=[('simulator', 'simulator'), ('testnet', 'testnet'), ('demo', 'demo'), ('live', 'live')], max_length=16)),
                ('symbol', models.CharField(max_length=32)),
                ('at', models.DateTimeField()),
                ('trade_id', models.BigIntegerField()),
                ('quantity', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('proceeds_quote', tradingbot.core.fields.AmountField(decimal_places=16, help_text="Net of the sale's fee", max_digits=38)),
                ('cost_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('realised_pnl_quote', tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38)),
                ('lot', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='closings', to='execution.lot')),
                ('sale', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='closings', to='execution.fill')),
            ],
            options={
                'indexes': [models.Index(fields=['environment', 'at'], name='execution_l_environ_892270_idx'), models.Index(fields=['environment', 'symbol', 'at', 'trade_id'], name='execution_l_environ_991faf_idx')],
                'constraints': [models.UniqueConstraint(fields=('sale', 'lot'), name='execution_closing_unique', nulls_distinct=False)],
            },
        ),
        migrations.RunPython(book_what_was_traded, migrations.RunPython.noop),
    ]
