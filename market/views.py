"""Pages and commands of market."""
