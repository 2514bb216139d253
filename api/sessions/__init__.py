"""Sessions: create, activate, pause, resume, end, claim, read."""
