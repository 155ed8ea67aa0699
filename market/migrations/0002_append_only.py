"""Snapshots are immutable; account events are append-only but for `folded_at`, set once by execution."""

from django.db import migrations

FORWARD = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON market_snapshot
    FOR EACH ROW EXECUTE FUNCTION core_append_only();

CREATE FUNCTION market_account_event_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.folded_at IS NULL AND NEW.folded_at IS NOT NULL
       AND (to_jsonb(NEW) - 'folded_at') = (to_jsonb(OLD) - 'folded_at') THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'market_accountevent is append-only' USING ERRCODE = '23514';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON market_accountevent
    FOR EACH ROW EXECUTE FUNCTION market_account_event_guard();
"""
REVERSE = """
DROP TRIGGER append_only ON market_accountevent;
DROP FUNCTION market_account_event_guard();
DROP TRIGGER append_only ON market_snapshot;
"""


class Migration(migrations.Migration):
    dependencies = [("market", "0001_initial"), ("core", "0002_audit_chain")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
