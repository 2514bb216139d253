"""The HTTP API of Lull: routes, the cleanup run, and the clients of Postgres and Supabase Storage."""

__version__ = "0.2.0"
