"""The exchange itself: accounts, books, matching, filters. Deterministic, no I/O, time is always an argument."""
