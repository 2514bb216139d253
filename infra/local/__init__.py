"""A local Supabase: embedded Postgres, the real PostgREST, and a gateway with a stand-in for Storage."""
