"""The HTTP side of Lull: handlers, the cleanup run and the doors to Supabase."""

__version__ = "0.2.0"
