"""The second version of the prompt, for new strategies and for those that never decided by the first."""

from django.db import migrations, models


def take_the_second(apps, schema_editor):
    fresh = apps.get_model("proposals", "Strategy").objects.filter(prompt_version="v1", decision=None)
    fresh.update(prompt_version="v2")


class Migration(migrations.Migration):
    dependencies = [("proposals", "0012_names_as_long_as_accounts")]
    operations = [
        migrations.AlterField(
            model_name="strategy",
            name="prompt_version",
            field=models.CharField(default="v2", max_length=16),
        ),
        migrations.RunPython(take_the_second, migrations.RunPython.noop),
    ]
