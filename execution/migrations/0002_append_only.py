"""Intents are immutable; lifecycle events, fills and probes are append-only. The database refuses the rest."""

from django.db import migrations

TABLES = ["execution_executionintent", "execution_fill", "execution_probe"]

FORWARD = "".join(
    f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
    "FOR EACH ROW EXECUTE FUNCTION core_append_only();\n"
    for table in TABLES
)
# An event of an order that we did not know yet may be given its order once, and nothing else may change.
FORWARD += """
CREATE FUNCTION execution_event_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.order_id IS NULL AND NEW.order_id IS NOT NULL
       AND (to_jsonb(NEW) - 'order_id') = (to_jsonb(OLD) - 'order_id') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'execution_orderlifecycleevent is append-only' USING ERRCODE = '23514';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON execution_orderlifecycleevent
    FOR EACH ROW EXECUTE FUNCTION execution_event_guard();
"""
REVERSE = "".join(
    f"DROP TRIGGER append_only ON {table};\n" for table in [*TABLES, "execution_orderlifecycleevent"]
) + "DROP FUNCTION execution_event_guard();"


class Migration(migrations.Migration):
    dependencies = [("execution", "0001_initial"), ("core", "0002_audit_chain")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
