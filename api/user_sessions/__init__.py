"""User sessions: typed JSON of one user, in memory, Redis or Postgres behind one interface."""
