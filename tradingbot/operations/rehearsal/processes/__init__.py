"""The rehearsal with real processes: parts killed, servers restarted and wires broken while orders flow."""
