-- Insight, idle gaps: how long sessions were idle, and whether their users came back. The threshold by regret
-- (api/insight/regret.py) is estimated from them.
--
-- A gap ends with `returned` (core/returns.sql), or with the activation of a session that a run had archived, or is
-- censored: a run deleted the session after `idle` seconds, and it is not known whether its user would have come. A
-- session that comes back later takes its censored gap back (n = -1) and counts with the whole of it.

-- The edges that an idleness may have passed, in seconds: 1 to 168 hours. Here gaps are counted by how many.
create or replace function lull.idle_edges()
returns double precision[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select array(select 3600 * h from unnest(
    '{1,2,3,4,6,9,12,16,20,24,36,48,60,72,96,120,168}'::double precision[]) with ordinality u (h, i) order by i);
$$;

-- The gaps that events of transactions from p_from to below p_to (null: to the end) ended. `cut` are archivings that a
-- session has come back from with an event of these; `before` is by the longest gap before: one that a run cut short
-- lasts until the session's next use.
create or replace function lull.gap_cells(p_from xid8, p_to xid8, p_zone text)
returns table (kind text, status text, day date, before smallint, reached smallint, outcome text, n bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return query
  with e as materialized (
    select v.id, v.session_id, v.kind, v.event, v.at, v.data ->> 'status' as status,
      (v.data ->> 'idle')::double precision as idle
    from lull.session_events v
    where v.xid >= p_from and (p_to is null or v.xid < p_to) and v.target is null and (
      v.event = 'activated' or v.event = 'returned' or v.event in ('archived', 'purged') and v.data ? 'idle'
        and v.data ->> 'status' in ('draft', 'active'))
  ), cut as materialized (
    select e.id as by, e.at as back_at, c.* from e cross join lateral lull.cut_gap(e.session_id, e.id) c
    where e.event in ('activated', 'returned')
  ), gap (id, session_id, kind, status, at, seconds, outcome, n) as (
    select e.id, e.session_id, e.kind, e.status, e.at, e.idle,
      case e.event when 'returned' then 'returned' else 'censored' end, 1
    from e where e.event <> 'activated' and e.id not in (select cut.by from cut)
    union all
    select c.id, e.session_id, e.kind, c.status, c.at, case o.outcome when 'censored' then c.idle
      else c.idle + extract(epoch from c.back_at - c.at) end, o.outcome, o.n
    from cut c join e on e.id = c.by
    cross join (values ('censored', -1), ('returned', 1)) o (outcome, n)
  ), edged as (
    select g.*, l.seconds as longest
    from gap g cross join lateral (
      select coalesce(max((x.data ->> 'idle')::double precision + case when x.event = 'returned' then 0 else coalesce((
          select extract(epoch from min(b.at) - x.at) from lull.session_events b
          where b.session_id = g.session_id and b.id > x.id and b.id < g.id and b.event in ('returned', 'activated')),
        0) end), 0) as seconds
      from lull.session_events x
      where x.session_id = g.session_id and x.id < g.id and x.event in ('returned', 'archived') and x.data ? 'idle') l
    where g.seconds >= 3600
  )
  select g.kind, g.status, (g.at at time zone p_zone)::date, width_bucket(g.longest, lull.idle_edges())::smallint,
    width_bucket(g.seconds, lull.idle_edges())::smallint, g.outcome, sum(g.n)::bigint
  from edged g group by 1, 2, 3, 4, 5, 6;
end
$$;

-- The archiving of a session that it has come back from with this event; no row when it has not, or had already.
create or replace function lull.cut_gap(p_session uuid, p_event bigint)
returns table (id bigint, at timestamptz, idle double precision, status text)
language sql
stable
rows 1
set search_path = pg_catalog, pg_temp
as $$
  select a.id, a.at, (a.data ->> 'idle')::double precision, a.data ->> 'status'
  from (
    select x.* from lull.session_events x
    where x.session_id = p_session and x.id < p_event
      and x.event in ('archived', 'returned', 'activated')
    order by x.id desc limit 1) a
  where a.event = 'archived' and a.data ? 'idle' and a.data ->> 'status' in ('draft', 'active');
$$;

-- Add the gaps of a step to the roll-up.
create or replace function lull.add_gaps(p_from xid8, p_to xid8, p_zone text, p_first date)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into lull.idle_gaps as g (kind, status, day, before, reached, outcome, n)
  select c.kind, c.status, c.day, c.before, c.reached, c.outcome, c.n from lull.gap_cells(p_from, p_to, p_zone) c
  where p_first is null or c.day >= p_first
  on conflict (day, kind, status, before, reached, outcome) do update set n = g.n + excluded.n;
$$;

-- What the regret of a kind and status is estimated from: {"at", "first_day" (of the numbers; null: none), "age_hours"
-- (the present age of the policy; null: none takes such sessions), "gaps": [{"before", "reached", "outcome", "n"}]}.
-- The outcome `open` is of sessions that are idle now.
create or replace function public.lull_regret(p_kind text, p_status text)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_reader lull.event_readers;
begin
  select * into v_reader from lull.event_readers where name = 'rollup';
  return jsonb_build_object('at', now(),
    'first_day', least((select min(day) from lull.daily_rollups),
      (select min(e.at)::date from lull.session_events e)),
    'age_hours', (
      select extract(epoch from min(p.age)) / 3600 from lull.policies p
      where p.target = 'lull.sessions' and p.equals = jsonb_build_object('kind', p_kind, 'status', p_status)),
    'gaps', (
      select coalesce(jsonb_agg(jsonb_build_object('before', x.before, 'reached', x.reached, 'outcome', x.outcome,
        'n', x.n) order by x.before, x.reached, x.outcome), '[]')
      from (
        select c.before, c.reached, c.outcome, sum(c.n) as n from (
          select g.before, g.reached, g.outcome, g.n from lull.idle_gaps g
          where g.kind = p_kind and g.status = p_status
          union all
          select l.before, l.reached, l.outcome, l.n
          from lull.gap_cells(coalesce(v_reader.xid, '0'), null, 'UTC') l
          where l.kind = p_kind and l.status = p_status and (v_reader.first_day is null or l.day >= v_reader.first_day)
          union all
          select o.before, o.reached, 'open', o.n from lull.open_gaps(p_kind, p_status) o) c
        group by c.before, c.reached, c.outcome having sum(c.n) <> 0) x));
end
$$;

-- The gaps of the sessions that are idle now.
create or replace function lull.open_gaps(p_kind text, p_status text)
returns table (before smallint, reached smallint, n bigint)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select width_bucket(coalesce(r.longest, 0), lull.idle_edges())::smallint,
    width_bucket(extract(epoch from now() - x.active_at)::double precision, lull.idle_edges())::smallint, count(*)
  from lull.sessions s
  cross join lateral (
    select greatest(s.last_activity_at, s.commanded_at, (
      select max(p.last_seen_at) from lull.session_participants p where p.session_id = s.id)) as active_at) x
  left join (
    select e.session_id, max((e.data ->> 'idle')::double precision) as longest
    from lull.session_events e where e.event = 'returned' group by e.session_id) r on r.session_id = s.id
  where s.kind = p_kind and s.status = p_status and s.companion_of is null
    and s.last_activity_at <= now() - interval '1 hour' and x.active_at <= now() - interval '1 hour'
  group by 1, 2;
$$;
