-- A log that was restored from a dump into another cluster. The stored transaction ids are of the old cluster and may
-- lie ahead of the new one's. Its readers (events/deliveries.sql, insight/rollups.sql) would wait for them for ever,
-- and take the new cluster's events for read.

-- Whether the log, or the reader's position in it, has transaction ids that this cluster has not given out yet. A
-- visible row can have none: it was committed before this statement's snapshot, or is this transaction's own.
create or replace function lull.is_event_log_restored()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
      select 1 from lull.event_readers r where r.xid >= pg_snapshot_xmax(pg_current_snapshot()))
    or exists (
      select 1 from lull.session_events e
      where e.xid >= pg_snapshot_xmax(pg_current_snapshot())
        and e.xid is distinct from pg_current_xact_id_if_assigned());
$$;

-- Count a restored log as committed: what the reader had not read in the old cluster, or what came after its last
-- reading, is queued for delivery; every restored event gets the oldest transaction id, and the reader goes on from
-- here, and the roll-ups begin anew. Without a reader only the events of the last 24 hours stay to be read. Does
-- nothing where the log is this cluster's own. Locks the reader's row, and the events that it changes. Refuses more
-- than p_most events: a migration, which has no time-out, takes any number. Returns how many events were changed.
create or replace function lull.rebase_event_log(p_most bigint default null)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_changed bigint;
begin
  perform 1 from lull.event_readers r where r.name = 'webhook' for update;
  if not lull.is_event_log_restored() then
    return 0;
  elsif p_most is not null and exists (
    select 1 from lull.session_events e where e.xid >= pg_snapshot_xmin(pg_current_snapshot()) offset p_most)
  then
    perform lull.refuse(503, 'not-migrated', 'The event log is from a dump of another cluster. '
      'Migrate the database (make migrate), which adapts it.');
  end if;
  with reader as (
    select r.xid, r.id, r.read_at from lull.event_readers r where r.name = 'webhook'
  ), rebased as (
    update lull.session_events e
    set xid = case when e.at >= now() - interval '24 hours' and not exists (select 1 from reader)
      then '4'::xid8 else '3'::xid8 end
    where e.xid >= pg_snapshot_xmin(pg_current_snapshot())
      or exists (select 1 from reader r where (e.xid, e.id) > (r.xid, r.id) or e.at > r.read_at)
    returning e.id, e.session_id, (
      select (o.xid, o.id) > (r.xid, r.id) or o.at > r.read_at
      from reader r, lull.session_events o  -- as the row was before: this statement's snapshot
      where o.id = e.id) as is_unread
  ), queued as (
    insert into lull.deliveries (event_id, session_id)
    select b.id, b.session_id from rebased b where b.is_unread
    on conflict do nothing
  ), moved as (
    update lull.event_readers r
    set xid = case r.name when 'webhook' then pg_snapshot_xmin(pg_current_snapshot()) else '0'::xid8 end, id = 0,
      restart = r.name = 'rollup'
    where r.name in ('webhook', 'rollup')
  )
  select count(*) into v_changed from rebased;
  raise notice 'The event log is from a dump of another cluster: % events count as committed now.', v_changed;
  return v_changed;
end
$$;
