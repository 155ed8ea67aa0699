"""The audit chain is made and guarded by the database itself (invariant 12)."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION core_audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE head core_audithead;
BEGIN
    INSERT INTO core_audithead (id, sequence, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'))
        ON CONFLICT (id) DO NOTHING;
    SELECT * INTO head FROM core_audithead WHERE id = 1 FOR UPDATE;
    UPDATE core_auditrecord
       SET sequence = head.sequence + 1, previous_hash = head.hash,
           hash = sha256(head.hash || convert_to(NEW.body, 'UTF8'))
     WHERE id = NEW.id;
    UPDATE core_audithead
       SET sequence = head.sequence + 1, hash = sha256(head.hash || convert_to(NEW.body, 'UTF8'))
     WHERE id = 1;
    RETURN NULL;
END $$;

-- Deferred: the chain's head is locked only while committing, as the last act of a transaction, so that
-- transactions which write several rows in different orders cannot deadlock on it.
CREATE CONSTRAINT TRIGGER core_audit_chain AFTER INSERT ON core_auditrecord
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION core_audit_chain();

CREATE FUNCTION core_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.hash IS NOT NULL OR NEW.sequence IS NOT NULL THEN
            RAISE EXCEPTION 'the audit chain is made by the database' USING ERRCODE = '23514';
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.hash IS NULL AND NEW.hash IS NOT NULL
       AND (NEW.id, NEW.at, NEW.actor, NEW.action, NEW.subject, NEW.body)
         = (OLD.id, OLD.at, OLD.actor, OLD.action, OLD.subject, OLD.body) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = '23514';
END $$;
CREATE TRIGGER core_audit_guard BEFORE INSERT OR UPDATE OR DELETE ON core_auditrecord
    FOR EACH ROW EXECUTE FUNCTION core_audit_guard();

CREATE FUNCTION core_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23514';
END $$;
CREATE TRIGGER core_audit_no_truncate BEFORE TRUNCATE ON core_auditrecord
    FOR EACH STATEMENT EXECUTE FUNCTION core_append_only();
"""

REVERSE = """
DROP TRIGGER core_audit_no_truncate ON core_auditrecord;
DROP TRIGGER core_audit_guard ON core_auditrecord;
DROP TRIGGER core_audit_chain ON core_auditrecord;
DROP FUNCTION core_audit_guard();
DROP FUNCTION core_audit_chain();
DROP FUNCTION core_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("core", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, REVERSE)]
