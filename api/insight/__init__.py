"""Read-only: what operators and monitors look at."""
