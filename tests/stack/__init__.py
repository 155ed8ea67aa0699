"""The running product: real processes, a real browser, kills."""
