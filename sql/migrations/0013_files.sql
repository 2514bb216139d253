-- Files whose bytes cannot be replaced, a log that survives a restore into another cluster, and an installation's choices.

-- By what an object without its comment is still known to be Lull's (lull.is_ours).
alter table lull.objects add column fingerprint text;

-- What an installation chose, kept from one migration to the next: `seed-views` (true or false).
create table lull.settings (
  name text primary key,
  value jsonb not null
);

-- An upload URL that is out: its bytes are removed once it has expired. Until then the file counts against its session's
-- limit, deleted or not. No foreign keys: the row outlives the file and the session.
alter table lull.file_removals
  add column session_id uuid,
  add column file_id uuid;
create index file_removals_session on lull.file_removals (session_id, not_before) where session_id is not null;

-- A reader whose position lies ahead of every transaction of this cluster is from another cluster: until
-- lull.rebase_event_log() has run, its position says nothing about what was read.
update lull.targets
set unless = $$exists (
  select 1 from lull.event_readers r
  where r.read_at > now() - interval '30 days'
    and ((t.xid, t.id) > (r.xid, r.id)
      or r.xid >= pg_snapshot_xmax(pg_current_snapshot())
      or exists (select 1 from lull.deliveries d where d.event_id = t.id and d.state = 'queued')))$$
where name = 'lull.session_events';
