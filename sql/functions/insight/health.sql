-- Insight, health: the state of the cleanup, for any caller. Facts only: api/insight/ decides which of them are faults.

-- The state of the cleanup as JSON, with the alerts that hold (alerts.sql; all but the archive's size). Cheap, because
-- GET /api/health/cleanup needs no secret: the last runs are read by index, and queued files are counted up to 10,000.
--   late_policies   that no run included for two intervals: up to 20, the longest neglected first
--   consecutive_failures   of the last 100 runs, newest first
create or replace function public.lull_cleanup_health(p_interval_minutes integer)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '3s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  with finished as (
    select id, status, finished_at, row_number() over (order by started_at desc, id desc) as n
    from lull.cleanup_runs
    where status <> 'running'
    order by started_at desc, id desc
    limit 100
  ), alert as materialized (
    select * from lull.alert_conditions(p_interval_minutes, false)
  )
  select jsonb_build_object(
    'at', now(),
    'interval_minutes', p_interval_minutes,
    'last_started_at', (select max(started_at) from lull.cleanup_runs),
    'last_finished_at', (select finished_at from finished where n = 1),
    'last_status', (select status from finished where n = 1),
    'last_completed_at', (
      select finished_at from lull.cleanup_runs
      where status in ('completed', 'partial')
      order by started_at desc limit 1),
    'late', exists (select 1 from alert where name = 'late'),
    'late_policies', (
      select coalesce(jsonb_agg(l.policy order by l.since, l.policy), '[]')
      from (select * from alert where name = 'late' and policy <> '' order by since, policy limit 20) l),
    'late_since', (select min(since) from alert where name = 'late'),
    'running_since', (select started_at from lull.cleanup_runs where status = 'running'),
    'lease_until', (select lease_until from lull.cleanup_runs where status = 'running'),
    'lease_expired', exists (select 1 from alert where name = 'stuck'),
    'paused_since', (select changed_at from lull.pauses() where name = 'cleanup'),
    'consecutive_failures', (
      select count(*) from finished
      where n < (select coalesce(min(n), 101) from finished where status in ('completed', 'partial'))),
    'stopped_policies', (
      select count(*) from lull.cleanup_run_policies p join finished f on f.id = p.run_id
      where f.n = 1 and p.outcome = 'stopped'),
    'failed_policies', (
      select count(*) from lull.cleanup_run_policies p join finished f on f.id = p.run_id
      where f.n = 1 and p.outcome = 'failed'),
    'dead_files', (select count(*) from lull.file_removals where dead_at is not null),
    'queued_files', (
      select count(*) from (select 1 from lull.file_removals where dead_at is null limit 10000) q),
    'alerts', (
      select coalesce(jsonb_agg(jsonb_build_object('condition', a.name, 'policy', nullif(a.policy, ''),
        'since', a.since, 'sentence', a.sentence) order by a.name, a.policy), '[]')
      from (select * from alert order by name, since limit 100) a));
$$;
