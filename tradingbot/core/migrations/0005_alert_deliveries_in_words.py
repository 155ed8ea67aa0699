from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("core", "0004_audit_rights")]
    operations = [
        migrations.AlterModelOptions(
            name="alertdelivery", options={"verbose_name_plural": "alert deliveries"}
        )
    ]
