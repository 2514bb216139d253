-- Core: what several features ask about runs. A switch named `cleanup` pauses every policy, `cleanup:<policy>` one. A
-- pause with an end is over then, without a call.

-- The pauses that are in effect.
create or replace function lull.pauses()
returns setof lull.switches
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select * from lull.switches s
  where (s.name = 'cleanup' or s.name like 'cleanup:%') and s.is_on and (s.until is null or s.until > now());
$$;

-- What is said of a pause: "paused since <time>[ until <time>][: reason]".
create or replace function lull.pause_words(p_pause lull.switches)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select 'paused since ' || lull.utc(p_pause.changed_at) || coalesce(' until ' || lull.utc(p_pause.until), '')
    || coalesce(': ' || p_pause.reason, '');
$$;

-- A time as a person reads it.
create or replace function lull.utc(p_at timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
$$;

-- A run in one line, with its totals.
--   would, did, cascaded, files   sums over its policies; would is null where a policy was not counted
--   restored                      roots of it that came back
--   returned                      of a shadow run: rows that it would have deleted first, and that were used since
create or replace function lull.run_summary(p_run lull.cleanup_runs)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'id', p_run.id, 'mode', p_run.mode, 'status', p_run.status, 'caller', p_run.caller, 'at', p_run.at,
    'started_at', p_run.started_at, 'finished_at', p_run.finished_at,
    'would', case when bool_or(l.would is null and l.outcome <> 'paused') then null else sum(l.would) end,
    'did', coalesce(sum(l.did), 0), 'cascaded', coalesce(sum(l.cascaded), 0), 'files', coalesce(sum(l.files), 0),
    'policies', count(l.policy), 'failed', count(*) filter (where l.outcome = 'failed'),
    'stopped', count(*) filter (where l.outcome = 'stopped'),
    'restored', (select coalesce(sum(r.roots), 0) from lull.restores r where r.run_id = p_run.id),
    'returned', case p_run.mode when 'shadow' then (
      select count(s.returned_at) from lull.shadow_rows s where s.run_id = p_run.id) end)
  from lull.cleanup_run_policies l where l.run_id = p_run.id;
$$;

-- How far a run in flight is.
create or replace function lull.run_progress(p_run lull.cleanup_runs)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'policies_done', count(*) filter (where l.outcome not in ('pending', 'open')), 'policies', count(*),
    'rows_done', coalesce(sum(l.did), 0), 'rows_expected', coalesce(sum(l.would), 0),
    'policy', min(l.policy) filter (where l.outcome = 'open'), 'lease_until', p_run.lease_until,
    'lease_expired', p_run.lease_until <= clock_timestamp(),
    'seconds', round(extract(epoch from clock_timestamp() - p_run.started_at)::numeric, 1))
  from lull.cleanup_run_policies l where l.run_id = p_run.id;
$$;
