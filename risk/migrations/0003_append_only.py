"""Judgements and versions of limits are history: the database refuses to change them."""

from django.db import migrations

FORWARD = """
CREATE TRIGGER risk_assessment_append_only BEFORE UPDATE OR DELETE ON risk_assessment
    FOR EACH ROW EXECUTE FUNCTION core_append_only();
CREATE TRIGGER risk_risklimits_unchanged BEFORE UPDATE ON risk_risklimits
    FOR EACH ROW EXECUTE FUNCTION core_append_only();
"""
REVERSE = """
DROP TRIGGER risk_risklimits_unchanged ON risk_risklimits;
DROP TRIGGER risk_assessment_append_only ON risk_assessment;
"""


class Migration(migrations.Migration):
    dependencies = [("risk", "0002_starting_rows"), ("core", "0002_audit_chain")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
