"""Pages and commands of risk."""
