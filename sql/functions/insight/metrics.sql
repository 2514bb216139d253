-- Insight, metrics: the numbers of GET /api/admin/metrics that neither the monitoring list nor the backlog has.

-- {"at", "alerts": [names that hold], "sessions": [{"kind", "status", "n"}], "archive_bytes", "archive_remainders",
-- "last_success" (a run of all policies; null before the first), "rollup_lag_seconds", "counters":
-- [{"metric", "policy", "label", "n"}]}. Sessions are counted one by one: 0.2 s for a million.
create or replace function public.lull_metrics(p_interval_minutes integer)
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
    'alerts', (
      select coalesce(jsonb_agg(distinct a.name), '[]') from lull.alert_conditions(p_interval_minutes, true) a),
    'sessions', (
      select coalesce(jsonb_agg(to_jsonb(c)), '[]')
      from (select kind, status, count(*) as n from lull.sessions group by kind, status) c),
    'archive_bytes', lull.archive_bytes(),
    'archive_remainders', (select count(*) from lull.archive_pages where kind = 'remainder'),
    'last_success', (
      select finished_at from lull.cleanup_runs
      where status in ('completed', 'partial') and whole and mode = 'run' order by started_at desc limit 1),
    'rollup_lag_seconds', lull.rollup_lag(),
    'counters', (
      select coalesce(jsonb_agg(to_jsonb(c) order by c.metric, c.policy, c.label), '[]')
      from (
        select metric, policy, label, n from lull.counts where metric <> 'restored'
        union all
        select 'restored', '', '', coalesce((select sum(n) from lull.counts where metric = 'restored'), 0)
          + (select coalesce(sum(rows), 0) from lull.restores)
      ) c));
$$;
