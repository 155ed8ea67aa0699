from django.db import migrations, models

import tradingbot.core.fields


class Migration(migrations.Migration):

    dependencies = [
        ('proposals', '0010_breakers_of_shadows'),
    ]

    operations = [
        migrations.AddField(
            model_name='proposal',
            name='held',
            field=models.JSONField(help_text='Of a SELL: quantity, stop and target of the position as the advisor was told of it', null=True),
        ),
        migrations.AddField(
            model_name='proposalscore',
            name='side',
            field=models.CharField(choices=[('BUY', 'BUY'), ('SELL', 'SELL')], default='BUY', max_length=4),
        ),
        migrations.RenameField(
            model_name='proposalscore',
            old_name='ask',
            new_name='quote',
        ),
        migrations.AlterField(
            model_name='proposalscore',
            name='quote',
            field=tradingbot.core.fields.AmountField(decimal_places=16, help_text='Of the snapshot: the ask for a BUY, the bid for a SELL', max_digits=38),
        ),
        migrations.AlterField(
            model_name='proposalscore',
            name='fee_rate',
            field=tradingbot.core.fields.AmountField(decimal_places=16, help_text='Of one trade, as a fraction', max_digits=38),
        ),
        migrations.AlterField(
            model_name='proposalscore',
            name='rule_version',
            field=models.PositiveSmallIntegerField(default=2),
        ),
        migrations.AlterField(
            model_name='proposalscore',
            name='stop_price',
            field=tradingbot.core.fields.AmountField(decimal_places=16, max_digits=38, null=True),
        ),
    ]
