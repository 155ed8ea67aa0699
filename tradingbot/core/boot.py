"""What every long-lived process makes sure of before it does anything."""

import sys

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor


def missing_migrations() -> list[str]:
    """Names of the migrations that the database lacks, `app.name`, in order."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def refuse_unmigrated() -> None:
    """Leave with one line when the database is out of reach or lacks a migration; nothing is begun then."""
    try:
        missing = missing_migrations()
    except DatabaseError as error:
        sys.exit(f"database: not usable: {str(error).strip().splitlines()[0]}. Check DATABASE_URL.")
    finally:
        connection.close()
    if missing:
        sys.exit(
            f"database: {len(missing)} migrations are missing, the first is {missing[0]}. Run: manage.py migrate"
        )
