-- Insight, the overview: what the dashboard shows at a glance, in one snapshot.

-- {"at", "interval_minutes", "sessions", "rooms_online", "backlog", "runs" (the last 30, newest first), "running" (the
-- progress of the run in flight, or null), "next_run_at" (null before the first run), "pauses", "holds", "alerts"}. No
-- part of it reads more rows when the tables grow: counts are exact up to 10,000.
create or replace function public.lull_overview(p_interval_minutes integer)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select jsonb_build_object(
    'at', now(),
    'interval_minutes', p_interval_minutes,
    'sessions', lull.counted_sessions(),
    'rooms_online', (
      select count(*) from (
        select distinct p.session_id from (
          select session_id from lull.session_participants
          where is_active and last_seen_at > now() - interval '2 minutes' order by last_seen_at desc limit 10000) p) r),
    'backlog', lull.backlog_lines(),
    'runs', (
      select coalesce(jsonb_agg(lull.run_summary(r) || jsonb_build_object('whole', r.whole)
        order by r.started_at desc, r.id desc), '[]')
      from (select * from lull.cleanup_runs order by started_at desc, id desc limit 30) r),
    'running', (
      select lull.run_progress(r) || jsonb_build_object('id', r.id, 'started_at', r.started_at)
      from lull.cleanup_runs r where r.status = 'running'),
    'next_run_at', (
      select r.started_at + make_interval(mins => p_interval_minutes)
      from lull.cleanup_runs r where r.whole order by r.started_at desc limit 1),
    'pauses', (
      select coalesce(jsonb_agg(jsonb_build_object('policy', nullif(substr(p.name, 9), ''), 'since', p.changed_at,
        'until', p.until, 'reason', p.reason) order by p.name), '[]')
      from lull.pauses() p),
    'holds', (
      select count(*) from (
        select 1 from lull.holds where until is null or until > now() limit 10001) h),
    'alerts', (
      select coalesce(jsonb_agg(jsonb_build_object('condition', a.name, 'policy', nullif(a.policy, ''),
        'since', a.since, 'sentence', a.sentence) order by a.name, a.policy), '[]')
      from (select * from lull.alert_conditions(p_interval_minutes, true) order by name, since limit 50) a));
$$;

-- The sessions by kind and status: exact up to 10,000 in all, and beyond that as of the last count (counted_at).
create or replace function lull.counted_sessions()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with live as materialized (
    select kind, status from lull.sessions limit 10001
  ), size as (
    select count(*) <= 10000 as is_exact from live
  )
  select jsonb_agg(jsonb_build_object('kind', k, 'status', s,
    'n', case when z.is_exact then (select count(*) from live l where l.kind = k and l.status = s)
      else coalesce(c.n, 0) end,
    'counted_at', case when not z.is_exact then (select min(counted_at) from lull.session_counts) end) order by o, p)
  from size z
  cross join unnest('{chat,room,game}'::text[]) with ordinality k (k, o)
  cross join unnest('{draft,active,paused,ended}'::text[]) with ordinality s (s, p)
  left join lull.session_counts c on c.kind = k and c.status = s;
$$;

-- What each policy's newest run left, policy by policy and adopted table by adopted table: rows is null where it is not
-- known, as after a pause.
create or replace function lull.backlog_lines()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('policy', coalesce(l.base, p.policy), 'table', l.own, 'rows', l.backlog,
    'oldest', l.backlog_oldest, 'outcome', l.outcome, 'at', l.completed_at) order by p.policy), '[]')
  from lull.policies_known p
  cross join lateral (
    select c.backlog, c.backlog_oldest, c.outcome, c.completed_at, split_part(c.policy, ':', 1) as base,
      nullif(substr(c.policy, length(split_part(c.policy, ':', 1)) + 2), '') as own
    from lull.cleanup_run_policies c
    where c.policy = p.policy and c.outcome not in ('pending', 'open')
    order by c.completed_at desc limit 1) l;
$$;

-- Count all sessions, unless that was done within the last hour. Above two million, about two million of them are
-- counted, and the numbers are that much more.
create or replace function lull.count_sessions()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_most constant double precision := 2000000;
  v_share constant double precision := least(1, c_most / greatest(1, (
    select reltuples from pg_catalog.pg_class where oid = 'lull.sessions'::regclass)));
begin
  if exists (select 1 from lull.session_counts where counted_at > now() - interval '1 hour') then
    return;
  end if;
  insert into lull.session_counts as c (kind, status, n, counted_at)
  select k.kind, k.status, round(sum(k.n) / v_share::numeric), now()
  from (
    select kind, status, 0 as n from lull.session_counts
    union all
    select kind, status, count(*) from lull.sessions tablesample system (100 * v_share) group by kind, status) k
  group by k.kind, k.status
  on conflict (kind, status) do update set n = excluded.n, counted_at = excluded.counted_at;
end
$$;
