-- Insight, health: whether the cleanup runs (asked by anybody) and what a database can say about itself (asked by the
-- doctor). Facts only: what is a fault, and how to mend it, is said in api/insight/.

-- How the cleanup is doing. Cheap, because GET /api/health/cleanup is open to everybody: the last runs by index, the
-- queue of files counted to 10,000 at most. A run that began counts, whatever became of it: how it ended is said
-- beside it. Before the first run the clock starts when the first migration was applied.
--   late   no run began within two intervals       consecutive_failures   of the last 100 runs, newest first
create or replace function public.lull_cleanup_health(p_interval_minutes integer)
returns jsonb
language sql
stable
security definer
set search_path = ''
set statement_timeout = '3s'
set timezone = 'UTC'
as $$
  with finished as (
    select id, status, finished_at, row_number() over (order by started_at desc, id desc) as n
    from lull.cleanup_runs
    where status <> 'running'
    order by started_at desc, id desc
    limit 100
  ), began as (
    select max(started_at) as last from lull.cleanup_runs
  ), waiting as (
    select coalesce(last, (select min(applied_at) from lull.migrations)) as since from began
  )
  select jsonb_build_object(
    'at', now(),
    'interval_minutes', p_interval_minutes,
    'last_started_at', (select last from began),
    'last_finished_at', (select finished_at from finished where n = 1),
    'last_status', (select status from finished where n = 1),
    'last_completed_at', (
      select finished_at from lull.cleanup_runs
      where status in ('completed', 'partial')
      order by started_at desc
      limit 1),
    'late', coalesce((select now() - since > 2 * make_interval(mins => p_interval_minutes) from waiting), true),
    'running_since', (select started_at from lull.cleanup_runs where status = 'running'),
    'lease_until', (select lease_until from lull.cleanup_runs where status = 'running'),
    'lease_expired', exists (select 1 from lull.cleanup_runs where status = 'running' and lease_until <= now()),
    'paused_since', (select changed_at from lull.switches where name = 'cleanup' and is_on),
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
      select count(*) from (select 1 from lull.file_removals where dead_at is null limit 10000) q));
$$;

-- Everything about this database that the doctor judges, as one document; nothing is written. Texts that could hold a
-- secret (the commands of cron jobs, error messages) stay here.
create or replace function public.lull_inspect()
returns jsonb
language sql
stable
security definer
set search_path = ''
set statement_timeout = '5s'
set timezone = 'UTC'
as $$
  select jsonb_build_object(
    'at', clock_timestamp(),
    'server_version', current_setting('server_version'),
    'server_version_number', current_setting('server_version_num')::integer,
    'migrations', (
      select coalesce(jsonb_agg(to_jsonb(m) order by m.name), '[]') from lull.migrations m),
    -- what was read from a file with the line ends of another system is the same function
    'functions', (
      select jsonb_object_agg(p.pronamespace::regnamespace::text || '.' || p.proname, md5(replace(p.prosrc, E'\r', '')))
      from pg_catalog.pg_proc p
      where p.pronamespace = 'lull'::regnamespace
        and coalesce(obj_description(p.oid, 'pg_proc'), '') not like 'Retired %'
        or p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%'),
    'indexes', (
      select coalesce(jsonb_object_agg(c.relname, i.indisvalid), '{}')
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      where c.relnamespace = 'lull'::regnamespace),
    'triggers', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'name', t.tgname, 'table', t.tgrelid::regclass, 'enabled', t.tgenabled <> 'D')), '[]')
      from pg_catalog.pg_trigger t
      join pg_catalog.pg_class c on c.oid = t.tgrelid
      where not t.tgisinternal
        and (c.relnamespace = 'lull'::regnamespace or t.tgfoid in (
          select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'lull'::regnamespace))),
    'grant_faults', lull.grant_faults(),
    'tables', lull.table_facts(),
    'autovacuum', current_setting('autovacuum')::boolean and current_setting('track_counts')::boolean,
    'oldest_transaction_seconds', (
      select extract(epoch from max(now() - a.xact_start)) from pg_catalog.pg_stat_activity a
      where a.datname = current_database() and a.backend_xmin is not null and a.pid <> pg_backend_pid()),
    'cron_jobs', lull.cron_jobs(),
    'callers', (
      select coalesce(jsonb_agg(to_jsonb(r) order by r.last_started_at desc), '[]')
      from (
        select caller, count(*) as runs, max(started_at) as last_started_at
        from lull.cleanup_runs
        where started_at > now() - interval '30 days'
        group by caller
      ) r),
    'attended', (
      select coalesce(jsonb_object_agg(p.name, (
        select max(c.completed_at) from lull.cleanup_run_policies c where c.policy = p.name)), '{}')
      from lull.policies p),
    'deliveries', (
      select jsonb_build_object('pending', count(*), 'oldest_pending_at', min(queued_at), 'dead', (
        select count(*) from lull.deliveries where state = 'dead' and settled_at > now() - interval '30 days'))
      from lull.deliveries
      where state = 'queued'));
$$;

-- What a role of PostgREST may do and must not, and what service_role cannot do and must: [{"object", "role",
-- "fault"}]. An object that everybody may use is told once, for PUBLIC. Where a role does not exist, nothing is said.
create or replace function lull.grant_faults()
returns jsonb
language sql
stable
set search_path = ''
as $$
  with ours as (
    select p.oid, p.oid::regprocedure::text as name, p.proowner,
      exists (
        select 1 from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0
      ) as open_to_all,
      p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%' as is_operation,
      p.prosecdef and coalesce(p.proconfig, '{}') @> array['search_path=""'] as is_sealed
    from pg_catalog.pg_proc p
    where p.pronamespace = 'lull'::regnamespace
      or p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%'
      or p.oid in (
        select to_regprocedure(o.identity) from lull.objects o where o.kind = 'function')
  ), relation as (
    select c.oid, c.oid::regclass::text as name, c.relkind
    from pg_catalog.pg_class c
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
      and (c.relnamespace = 'lull'::regnamespace
        or c.oid in (select to_regclass(o.identity) from lull.objects o where o.kind = 'view'))
  ), role as (
    select r.rolname as name from pg_catalog.pg_roles r where r.rolname in ('anon', 'authenticated', 'service_role')
  ), fault (object, role, fault) as (
    select name, 'PUBLIC', 'may be executed' from ours where open_to_all
    union all
    select o.name, r.name, 'may be executed'
    from ours o
    join role r on r.name <> 'service_role' or o.name like 'lull.%'
    where not o.open_to_all and has_function_privilege(r.name, o.oid, 'execute')
    union all
    select o.name, r.name, 'cannot be executed'
    from ours o
    join role r on r.name = 'service_role'
    where o.is_operation and not has_function_privilege(r.name, o.oid, 'execute')
    union all
    select name, 'whoever calls it', 'does not run with its owner''s rights and an empty search_path'
    from ours where is_operation and not is_sealed
    union all
    select t.name, r.name, 'may be read or written'
    from relation t
    cross join role r
    where case t.relkind
      when 'S' then has_sequence_privilege(r.name, t.oid, 'usage, select, update')
      else has_table_privilege(r.name, t.oid, 'select, insert, update, delete, truncate, references, trigger')
        or has_any_column_privilege(r.name, t.oid, 'select, insert, update, references')
    end
    union all
    select 'schema lull', r.name, 'may be used'
    from role r
    where has_schema_privilege(r.name, 'lull', 'usage, create')
  )
  select coalesce(jsonb_agg(to_jsonb(f) order by f.object, f.role), '[]') from fault f;
$$;

-- How vacuuming keeps up with each table: [{"name", "live", "dead", "limit" (dead rows that start an autovacuum),
-- "vacuumed_at", "enabled"}].
create or replace function lull.table_facts()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'name', c.oid::regclass, 'live', s.n_live_tup, 'dead', s.n_dead_tup,
    'vacuumed_at', greatest(s.last_autovacuum, s.last_vacuum),
    'enabled', coalesce(o.enabled, true),
    'limit', round(
      (coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::float8)
      + coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0))::numeric)
    ) order by c.relname), '[]')
  from pg_catalog.pg_class c
  join pg_catalog.pg_stat_all_tables s on s.relid = c.oid
  cross join lateral (
    select bool_and(v.option_value::boolean) filter (where v.option_name = 'autovacuum_enabled') as enabled,
      max(v.option_value::float8) filter (where v.option_name = 'autovacuum_vacuum_threshold') as threshold,
      max(v.option_value::float8) filter (where v.option_name = 'autovacuum_vacuum_scale_factor') as scale
    from pg_options_to_table(c.reloptions) v
  ) o
  where c.relnamespace = 'lull'::regnamespace and c.relkind = 'r';
$$;

-- The jobs of pg_cron that are about the cleanup, without their commands (a header in one may hold the secret):
-- [{"name", "schedule", "active", "does" (`dry-run`, `request` or `sql`), "last_status"}]; null without pg_cron. Only a POST
-- executes, or a GET that says dryRun=false.
create or replace function lull.cron_jobs()
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_jobs jsonb;
begin
  if to_regclass('cron.job') is null or to_regclass('cron.job_run_details') is null then
    return null;
  end if;
  execute $query$
    select coalesce(jsonb_agg(jsonb_build_object(
      'name', coalesce(j.jobname, 'job ' || j.jobid), 'schedule', j.schedule, 'active', j.active,
      'does', case
        when j.command !~* 'cleanup-sessions' then 'sql'
        when j.command ~* 'dryrun=true' then 'dry-run'
        when j.command ~* 'http_get' and j.command !~* 'dryrun=false|vercel-cron' then 'dry-run'
        else 'request'
      end,
      'last_status', (
        select d.status from cron.job_run_details d where d.jobid = j.jobid order by d.runid desc limit 1)
      ) order by j.jobid), '[]')
    from cron.job j
    where j.command ~* '\mlull|cleanup-sessions|cleanup_inactive_sessions'
  $query$ into v_jobs;
  return v_jobs;
exception
  when insufficient_privilege then
    return null;
end
$$;
