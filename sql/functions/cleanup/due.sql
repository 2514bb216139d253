-- Cleanup, due: when the next run of a scheduler inside the database is, and a watch over it.

-- In how long a run is due: an interval after the last one began, by any caller; zero or less is now. One that
-- was abandoned does not count, nor one of a single policy, which is an operator's errand.
create or replace function lull.due_in(p_interval_minutes integer)
returns interval
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(max(r.started_at) + make_interval(mins => p_interval_minutes) - now(), interval '0')
  from lull.cleanup_runs r
  where r.started_at > now() - make_interval(mins => p_interval_minutes)
    and r.status <> 'abandoned' and (r.status <> 'running' or r.lease_until > now())
    and lull.is_whole(r.id);
$$;

-- Whether a run is one of all policies.
create or replace function lull.is_whole(p_run uuid)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select (select count(*) from lull.cleanup_run_policies where run_id = p_run) >= (select count(*) from lull.policies);
$$;

-- The same for a scheduler outside the database: several of them, or one that restarts often, share one rhythm by it.
-- Returns {"due_in_seconds"}, 0 when a run is due now.
create or replace function public.lull_cleanup_due(p_interval_minutes integer)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '5s'
as $$
  select lull.require_server();
  select jsonb_build_object('due_in_seconds', greatest(0, extract(epoch from lull.due_in(p_interval_minutes))));
$$;

-- Raise while the last run that ended did not end well, and name what was wrong: a step cannot raise, as that would
-- undo the report that it has just stored. Returns {"status"} when all is well, and while the cleanup is paused.
create or replace function public.lull_watch_cleanup()
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '5s'
as $$
declare
  v_server constant name := lull.require_server();
  v_run lull.cleanup_runs;
  v_said text;
begin
  if exists (select 1 from lull.pauses() where name = 'cleanup') then
    return jsonb_build_object('status', 'paused');
  end if;
  select * into v_run from lull.cleanup_runs r
  where r.status <> 'running' and lull.is_whole(r.id)
  order by r.started_at desc
  limit 1;
  select format('Run %s of %s, begun %s, %s%s.', v_run.id, v_run.caller, lull.utc(v_run.started_at),
    case v_run.status when 'stopped' then 'was stopped' when 'abandoned' then 'was abandoned' else v_run.status end,
    coalesce(': ' || string_agg(format('%s: %s', policy, coalesce(error, stop_reason)), '; ' order by position), ''))
  into v_said
  from lull.cleanup_run_policies
  where run_id = v_run.id and outcome in ('failed', 'stopped');
  if v_run.status in ('failed', 'abandoned') then
    perform lull.refuse(500, 'cleanup-failed', v_said);
  elsif v_run.status = 'stopped' then
    perform lull.refuse(409, 'cleanup-stopped', v_said);
  end if;
  return jsonb_build_object('status', coalesce(v_run.status, 'none'));
end
$$;
