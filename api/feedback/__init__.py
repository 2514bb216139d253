"""Feedback on sessions: a score and a few words."""
