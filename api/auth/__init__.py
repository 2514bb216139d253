"""Callers: access tokens, session tokens, secrets."""
