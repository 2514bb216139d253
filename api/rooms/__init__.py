"""Rooms: people in a session: joining by an invite or directly, presence, expiry, and the sweep."""
