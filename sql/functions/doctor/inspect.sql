-- Doctor: facts about this database. api/doctor/ decides which of them are faults, and how to fix them.

-- All facts about this database that the doctor needs, as one JSON object; nothing is written. Texts that could hold a
-- secret (commands of cron jobs, error messages) are left out.
create or replace function public.lull_inspect()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '5s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select jsonb_build_object(
    'at', clock_timestamp(),
    'server_version', current_setting('server_version'),
    'server_version_number', current_setting('server_version_num')::integer,
    'migrations', (select coalesce(jsonb_agg(to_jsonb(m) order by m.name), '[]') from lull.migrations m),
    'grant_faults', lull.grant_faults(),
    'unmarked', lull.unmarked_objects(),
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
    'deliveries', lull.delivery_facts(),
    'own_tables', lull.own_table_facts(),
    'remainders', lull.remainder_facts(),
    'sweeps', lull.sweep_facts(),
    'games', lull.game_facts()) || lull.catalog_facts();
$$;

-- The functions with hashes of their bodies, which indexes are valid, and the triggers of Lull's tables and functions.
create or replace function lull.catalog_facts()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    -- line endings are normalised: a file from another system is the same function
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
          select p.oid from pg_catalog.pg_proc p where p.pronamespace = 'lull'::regnamespace))));
$$;

-- When the last sweep began, which policies warn before a session expires, and whether a session of theirs is active.
create or replace function lull.sweep_facts()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select jsonb_build_object(
    'last_started_at', (select w.started_at from lull.sweeps w),
    'warning', coalesce(array_agg(p.name order by p.name), '{}'),
    'needed', coalesce(bool_or(exists (
      select 1 from lull.sessions s where s.kind = p.equals ->> 'kind' and s.status = 'active')), false))
  from lull.policies p
  where p.target = 'lull.sessions' and p.warn_before is not null and p.equals ->> 'status' = 'active';
$$;

-- Games that need an operator: open ones that share a key, from before keys were unique, and active ones that were
-- recovered without a command since, most often first. At most 20 of each.
create or replace function lull.game_facts()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'shared_keys', (
      select coalesce(jsonb_agg(jsonb_build_object('key', k.external_key, 'games', k.games)), '[]')
      from (
        select s.external_key, array_agg(s.id order by s.created_at) as games
        from lull.sessions s
        where s.kind = 'game' and s.status <> 'ended' and s.external_key in (
          select e.external_key from lull.sessions e where e.key_exempt and e.kind = 'game' and e.status <> 'ended')
        group by s.external_key
        order by s.external_key
        limit 20) k),
    'recovered', (
      select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'times', r.recoveries)), '[]')
      from (
        select s.id, s.recoveries from lull.sessions s
        where s.kind = 'game' and s.status = 'active' and s.incarnation is not null and s.recoveries > 0
        order by s.recoveries desc, s.id
        limit 20) r));
$$;

-- The team's tables on the policies' list: why a policy cannot act on one now, which tables below an adopted one are
-- not named, so that their rows keep it, and which roles may put code on one of its tables.
create or replace function lull.own_table_facts()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
      'name', g.name, 'reasons', lull.target_reasons(g), 'unnamed', case when g.kind is null then '{}' else array(
        select distinct b.child::text
        from lull.tables_below(to_regclass(g.name)) b
        join pg_catalog.pg_class c on c.oid = b.child
        where b.depth = 1 and c.relnamespace <> 'lull'::regnamespace
          and (coalesce(g.below, '{}') -> b.child::text) is null
        order by 1) end, 'seen_indexes', lull.seen_indexes(g), 'grants', lull.code_grants(g)) order by g.name), '[]')
  from lull.targets g
  where not g.builtin;
$$;

-- What restores could not bring back, by target: rows, reasons, and when the first of it is purged.
create or replace function lull.remainder_facts()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(to_jsonb(r) order by r.target), '[]')
  from (
    select p.target, sum(p.rows) as rows, min(p.purge_after) as purge_after,
      array(select distinct x from lull.archive_pages q, unnest(q.reasons) x
        where q.kind = 'remainder' and q.target = p.target order by x limit 20) as reasons
    from lull.archive_pages p
    where p.kind = 'remainder'
    group by p.target
  ) r;
$$;

-- The webhook's queue: {"pending", "oldest_pending_at", "dead" (within 30 days), "restored" (whether the log, or the
-- reader's position in it, is from a dump of another cluster: it has transaction ids that lie ahead)}.
create or replace function lull.delivery_facts()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('pending', count(*), 'oldest_pending_at', min(queued_at),
    'dead', (
      select count(*) from lull.deliveries where state = 'dead' and settled_at > now() - interval '30 days'),
    'restored', exists (
      select 1 from lull.event_readers r where r.xid >= pg_snapshot_xmax(pg_current_snapshot())) or exists (
      select 1 from lull.session_events e where e.xid >= pg_snapshot_xmax(pg_current_snapshot())))
  from lull.deliveries
  where state = 'queued';
$$;

-- The state of vacuuming of each table: [{"name", "live", "dead", "limit" (dead rows that start an autovacuum),
-- "vacuumed_at", "enabled"}].
create or replace function lull.table_facts()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'name', c.oid::regclass, 'live', s.n_live_tup, 'dead', s.n_dead_tup,
    'vacuumed_at', greatest(s.last_autovacuum, s.last_vacuum),
    'enabled', coalesce(o.enabled, true),
    'limit', round(
      (coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::float8)
      + coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::float8)
        * greatest(c.reltuples, 0))::numeric)
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
-- [{"name", "schedule", "active", "does" (`dry-run`, `request` or `sql`), "last_status"}]; null without pg_cron. Only a
-- POST executes, or a GET that says dryRun=false.
create or replace function lull.cron_jobs()
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
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
