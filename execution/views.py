"""Pages and commands of execution."""
