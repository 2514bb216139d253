-- What GET /api/health/cleanup counts at every call: removals that were given up. Few, and anybody may ask.
create index file_removals_dead on lull.file_removals (id) where dead_at is not null;
