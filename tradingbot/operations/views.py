"""Pages that span the apps: the shell, health."""
