-- Insight, roll-ups: the cells of the event log (cells.sql), added up once.
--
-- Identity values commit out of order, so the log is read by whole transactions: all below a snapshot's xmin are over,
-- and none of them can still commit an event. The snapshot is taken after the reader's row is locked: with an older one
-- the second of two calls would count what the first has counted.

-- Count the next transactions of the log, about p_most events of them (whole ones, so one large transaction may be
-- more). p_zone: whose days; a change counts the log anew, as does a log from another cluster's dump. Locks the
-- reader's row. Returns {"events", "more" (whether any are left to count), "lag_seconds"}.
create or replace function public.lull_roll_up(p_zone text default 'UTC', p_most integer default 20000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set enable_seqscan = off
set statement_timeout = '30s'
set lock_timeout = '5s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_reader lull.event_readers;
  v_end xid8;
  v_full xid8;
  v_counted bigint;
begin
  if not exists (select 1 from pg_catalog.pg_timezone_names where name = p_zone) then
    perform lull.refuse(422, 'invalid-parameter',
      format('There is no time zone %s. Nothing was counted.', p_zone));
  end if;
  if lull.is_event_log_restored() then
    perform lull.rebase_event_log(50000);
  end if;
  insert into lull.event_readers (name, xid, id, time_zone) values ('rollup', '0', 0, p_zone) on conflict do nothing;
  select * into v_reader from lull.event_readers where name = 'rollup' for update;
  if v_reader.restart or v_reader.time_zone <> p_zone then
    v_reader := lull.restart_rollups(p_zone);
  end if;
  v_end := pg_snapshot_xmin(pg_current_snapshot());  -- of this statement: later than the lock
  select x.xid into v_full from lull.session_events x
  where x.xid >= v_reader.xid and x.xid < v_end order by x.xid, x.id offset greatest(p_most, 1) limit 1;
  if v_full is not null then
    v_end := greatest(v_full, (v_reader.xid::text::bigint + 1)::text::xid8);
  end if;
  perform lull.add_gaps(v_reader.xid, v_end, p_zone, v_reader.first_day);
  with added as (
    select * from lull.event_cells(v_reader.xid, v_end, p_zone) c
    where v_reader.first_day is null or c.day >= v_reader.first_day
  ), stored as (
    insert into lull.daily_rollups as r (day, kind, measure, label, bucket, n, total)
    select a.day, a.kind, a.measure, a.label, a.bucket, a.n, a.total from added a
    on conflict (day, kind, measure, label, bucket) do update
    set n = r.n + excluded.n, total = r.total + excluded.total
  )
  select count(*) into v_counted from lull.session_events x where x.xid >= v_reader.xid and x.xid < v_end;
  update lull.event_readers set xid = greatest(xid, v_end), read_at = greatest(read_at, now()) where name = 'rollup';
  perform lull.note_table_sizes(p_zone);
  perform lull.count_sessions();
  return jsonb_build_object('events', v_counted, 'more', v_full is not null, 'lag_seconds', lull.rollup_lag());
end
$$;

-- Begin anew, in this zone's days. Days that the log does not reach back to whole stay as they are.
create or replace function lull.restart_rollups(p_zone text)
returns lull.event_readers
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reader lull.event_readers;
  v_oldest constant date := (select (min(at) at time zone p_zone)::date from lull.session_events);
  v_first date := case
    when exists (select 1 from lull.daily_rollups where day < v_oldest) then v_oldest + 1 end;
begin
  if v_oldest is null then
    v_first := (select max(day) + 1 from lull.daily_rollups);
  else
    delete from lull.daily_rollups where v_first is null or day >= v_first;
    delete from lull.idle_gaps where v_first is null or day >= v_first;
  end if;
  update lull.event_readers
  set xid = '0', id = 0, first_day = v_first, time_zone = p_zone, restart = false
  where name = 'rollup'
  returning * into v_reader;
  return v_reader;
end
$$;

-- The age in seconds of the oldest event that is not counted yet; 0 without one. A transaction that is open for long
-- holds it up.
create or replace function lull.rollup_lag()
returns double precision
language sql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
  select coalesce(extract(epoch from now() - min(o.at)), 0)
  from (
    select e.at from lull.session_events e
    where e.xid >= coalesce((select r.xid from lull.event_readers r where r.name = 'rollup'), '0')
    order by e.xid, e.id limit 100) o;
$$;

-- Cells from the roll-ups, and from the events that no roll-up has. p_first: the first day.
create or replace function lull.daily_cells(p_first date)
returns table (day date, kind text, measure text, label text, bucket smallint, n bigint, total double precision)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reader lull.event_readers;
begin
  select * into v_reader from lull.event_readers r where r.name = 'rollup';
  return query
  select r.day, r.kind, r.measure, r.label, r.bucket, r.n, r.total from lull.daily_rollups r where r.day >= p_first
  union all
  select c.day, c.kind, c.measure, c.label, c.bucket, c.n, c.total
  from lull.event_cells(coalesce(v_reader.xid, '0'), null, coalesce(v_reader.time_zone, 'UTC')) c
  where c.day >= greatest(p_first, v_reader.first_day);
end
$$;

-- Today, in the zone of the roll-ups.
create or replace function lull.statistics_today()
returns date
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select (now() at time zone coalesce((select time_zone from lull.event_readers where name = 'rollup'), 'UTC'))::date;
$$;

-- Note how large Lull's tables and the adopted ones are today.
create or replace function lull.note_table_sizes(p_zone text)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into lull.table_sizes (day, name, bytes, rows, dead)
  select (now() at time zone p_zone)::date, c.oid::regclass::text, pg_total_relation_size(c.oid),
    coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0)
  from pg_catalog.pg_class c
  left join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
  where c.relkind in ('r', 'p') and (c.relnamespace = 'lull'::regnamespace
    or c.oid in (select to_regclass(t.name) from lull.targets t where not t.builtin))
  on conflict (day, name) do update set bytes = excluded.bytes, rows = excluded.rows, dead = excluded.dead;
$$;
