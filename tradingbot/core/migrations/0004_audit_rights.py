"""The audit log is append-only by rights, too: a second lock beside the triggers of 0002.

The product's role owns the table, so it could give itself the rights again; that is a deliberate act, and the
triggers still refuse. The chain's own trigger runs with the rights of who inserts: it fills three columns.
"""

from django.db import migrations, models

FORWARD = """
REVOKE UPDATE, DELETE, TRUNCATE ON core_auditrecord FROM PUBLIC, CURRENT_USER;
GRANT UPDATE (sequence, previous_hash, hash) ON core_auditrecord TO CURRENT_USER;
REVOKE DELETE, TRUNCATE ON core_audithead FROM PUBLIC, CURRENT_USER;
"""
REVERSE = """
REVOKE UPDATE (sequence, previous_hash, hash) ON core_auditrecord FROM CURRENT_USER;
GRANT UPDATE, DELETE, TRUNCATE ON core_auditrecord TO CURRENT_USER;
GRANT DELETE, TRUNCATE ON core_audithead TO CURRENT_USER;
"""


class Migration(migrations.Migration):
    dependencies = [("core", "0003_alert_delivery")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
