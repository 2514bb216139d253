"""Files of a session."""
