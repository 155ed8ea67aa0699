"""A first strategy, so that the desk has something to do from the first minute."""

from django.db import migrations


def create(apps, schema_editor):
    apps.get_model("proposals", "Strategy").objects.create(
        name="momentum-1m",
        symbols=["BTCUSDT", "ETHUSDT", "SOLUSDT"],
        interval="1m",
        prompt_version="v1",
    )


class Migration(migrations.Migration):
    dependencies = [("proposals", "0001_initial")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
