"""Read-only numbers for operators and monitoring."""
