"""Pages and commands of proposals."""
