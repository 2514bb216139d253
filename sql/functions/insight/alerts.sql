-- Insight, alerts: the conditions of which an operator is told. Health, metrics, log and webhook show the same rows.
--
--   lull.alert_conditions   what holds now (stuck, failing, breaker, dead-letter, remainder, paused-long,
--                           falling-behind, late, archive-large), read from what runs have stored
--   lull_judge_alerts       compare with lull.alert_states: what is to be told now
--   lull_settle_alerts      it was told
--
-- Sentences name policies and tables, never a row, a user or an error's text: health shows them to anyone.

-- The conditions that hold now. p_sizes: the archive's size too, for which Postgres walks the database's files.
create or replace function lull.alert_conditions(p_interval_minutes integer, p_sizes boolean)
returns table (name text, policy text, since timestamptz, sentence text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with newest as materialized (
    select * from lull.newest_lines()
  )
  select 'stuck', '', r.lease_until, format('The run that began at %s went silent at %s.',
    lull.utc(r.started_at), lull.utc(r.lease_until))
  from lull.cleanup_runs r where r.status = 'running' and r.lease_until < now() - interval '60 seconds'
  union all
  (select 'failing', '', x.finished_at, format('The last run ended badly at %s: %s.', lull.utc(x.finished_at),
      case x.status when 'failed' then 'a policy failed' else 'it was killed or lost its lease' end)
    from (
      select r.status, r.finished_at from lull.cleanup_runs r
      where r.status <> 'running' and r.whole order by r.started_at desc, r.id desc limit 1) x
    where x.status in ('failed', 'abandoned'))
  union all
  select 'breaker', n.policy, n.completed_at, format('The breaker stopped %s at %s: nothing of it is deleted until an '
    'operator lets it through.', n.policy, lull.utc(n.completed_at))
  from newest n where n.outcome = 'stopped'
  union all
  select 'dead-letter', '', d.since, format('%s were given up: %s files that could not be removed from Storage, %s '
    'events that the webhook did not take.', d.files + d.events, d.files, d.events)
  from lull.dead_letters() d where d.files + d.events > 0
  union all
  select 'remainder', '', min(p.archived_at), format('A restore could not bring back all: %s pages of remainders are '
    'archived, the first of them until %s.', count(*), coalesce(lull.utc(min(p.purge_after)), 'an operator acts'))
  from lull.archive_pages p where p.kind = 'remainder' having count(*) > 0
  union all
  select 'paused-long', substr(p.name, 9), p.changed_at, format('The cleanup%s is paused since %s.',
    coalesce(' of ' || nullif(substr(p.name, 9), ''), ''), lull.utc(p.changed_at))
  from lull.pauses() p where p.changed_at < now() - interval '7 days'
  union all
  select 'falling-behind', b.policy, b.since, b.sentence
  from lull.falling_behind(p_interval_minutes, array(select n::lull.cleanup_run_policies from newest n)) b
  union all
  select 'late', l.policy, l.since, l.sentence from lull.late_policies(p_interval_minutes) l
  union all
  select 'archive-large', '', a.since, a.sentence from lull.archive_large() a where p_sizes;
$$;

-- The newest line of each policy, and of each adopted table of it, that is over.
create or replace function lull.newest_lines()
returns setof lull.cleanup_run_policies
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select n.*
  from (
    select p.name from lull.policies p
    union all
    select p.name || ':' || g.name from lull.policies p join lull.targets g on g.kind is not null
  ) l
  cross join lateral (
    select c.* from lull.cleanup_run_policies c
    where c.policy = l.name and c.outcome not in ('pending', 'open') order by c.completed_at desc limit 1
  ) n;
$$;

-- Removals of files and deliveries of events that were given up, and that no operator settled.
create or replace function lull.dead_letters(out files bigint, out events bigint, out since timestamptz)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select (select count(*) from lull.file_removals where dead_at is not null),
    (select count(*) from lull.deliveries where state = 'dead' and acknowledged_at is null),
    least((select min(dead_at) from lull.file_removals where dead_at is not null),
      (select min(settled_at) from lull.deliveries where state = 'dead' and acknowledged_at is null));
$$;

-- Policies whose backlog grows: it rose over the last three runs (or did, and no run has ended lower since), is 1,000
-- rows or more, and its oldest row is more than two intervals past the cutoff. Shadow runs have no backlog. p_newest:
-- the newest lines.
create or replace function lull.falling_behind(p_interval_minutes integer, p_newest lull.cleanup_run_policies[])
returns table (policy text, since timestamptz, sentence text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select n.policy, coalesce(a.since, n.completed_at),
    format('%s falls behind: %s stale rows were left at %s.', n.policy, n.backlog, lull.utc(n.completed_at))
  from unnest(p_newest) n
  cross join lateral (
    select array_agg(x.backlog order by x.completed_at desc) as backlogs
    from (
      select c.backlog, c.completed_at from lull.cleanup_run_policies c
      where c.policy = n.policy and c.outcome not in ('pending', 'open') and c.backlog is not null
      order by c.completed_at desc limit 3
    ) x
  ) b
  left join lull.alert_states a on a.name = 'falling-behind' and a.policy = n.policy and a.cleared_at is null
  where n.outcome <> 'shadow' and n.backlog >= 1000
    and n.backlog_oldest < n.cutoff - 2 * make_interval(mins => p_interval_minutes)
    and (b.backlogs[1] > b.backlogs[2] and b.backlogs[2] > b.backlogs[3]
      or a.name is not null and b.backlogs[1] >= b.backlogs[2]);
$$;

-- Policies that no run has included for two intervals. A policy that never was, while others were, is late when its
-- oldest stale row is two intervals past its age; before any run the time counts from when it was stored. A
-- scheduler's call counts while the cleanup is paused.
create or replace function lull.late_policies(p_interval_minutes integer)
returns table (policy text, since timestamptz, sentence text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with called as (
    select max(s.called_at) as at from lull.switches s where s.name = 'cleanup'
  ), attended as (
    select p.name, k.since, k.oldest + p.age as oldest_due, greatest(
      (select max(l.opened_at) from lull.cleanup_run_policies l where l.policy = p.name),
      (select max(l.completed_at) from lull.cleanup_run_policies l where l.policy = p.name),
      (select c.at from called c)) as at
    from lull.policies p
    left join lull.policies_known k on k.policy = p.name
  ), due as (
    select a.name, coalesce(a.at, case when exists (select 1 from lull.cleanup_runs) then a.oldest_due else a.since end)
      as at
    from attended a
  )
  select d.name, d.at, format('No run has included %s since %s; one is expected every %s minutes.', d.name,
    lull.utc(d.at), p_interval_minutes)
  from due d where now() - d.at > 2 * make_interval(mins => p_interval_minutes)
  union all
  select '', now(), 'No policy is stored: run a migration.' where not exists (select 1 from lull.policies);
$$;

-- Whether the archive is large: 1 GB or more, and 30 % of the database or more (once it was: until below 25 %).
create or replace function lull.archive_large()
returns table (since timestamptz, sentence text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(a.since, now()), format('The archive takes %s MB, %s %% of the database.', s.archive / 1000000,
    round(100.0 * s.archive / s.whole))
  from (select lull.archive_bytes() as archive, pg_database_size(current_database()) as whole) s
  left join lull.alert_states a on a.name = 'archive-large' and a.cleared_at is null
  where s.archive >= 1000000000 and s.archive >= s.whole * case when a.name is null then 0.30 else 0.25 end;
$$;

-- What the archive takes on disk.
create or replace function lull.archive_bytes()
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select pg_total_relation_size('lull.archive_pages') + pg_total_relation_size('lull.archive_keys')
    + pg_total_relation_size('lull.archive');
$$;

-- Note what holds and what is over, and return what is to be told now: {"alerts": [{"name", "policy", "since",
-- "sentence", "state" (`raised`, `lasts` once in 24 hours, or `cleared`)}]}. What is returned is claimed for 30 s, so
-- that no other process tells it too. `late` and `stuck` are left out: what does not run cannot tell that.
create or replace function public.lull_judge_alerts(p_interval_minutes integer)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_alerts jsonb;
begin
  with holds as materialized (
    select * from lull.alert_conditions(p_interval_minutes, true) where name not in ('late', 'stuck')
  ), raised as (
    insert into lull.alert_states as s (name, policy, since, sentence)
    select h.name, h.policy, h.since, h.sentence from holds h
    on conflict (name, policy) do update set sentence = excluded.sentence, cleared_at = null,
      since = case when s.cleared_at is null then s.since else excluded.since end,
      told_at = case when s.cleared_at is null then s.told_at end
  )
  update lull.alert_states s set cleared_at = now()
  where s.cleared_at is null and not exists (select 1 from holds h where h.name = s.name and h.policy = s.policy);
  delete from lull.alert_states where cleared_at is not null and told_at is null;
  with told as (
    update lull.alert_states set claimed_until = now() + interval '30 seconds'
    where (claimed_until is null or claimed_until < now())
      and (cleared_at is not null or told_at is null or told_at < now() - interval '24 hours')
    returning *
  )
  select coalesce(jsonb_agg(jsonb_build_object('name', t.name, 'policy', t.policy, 'since', t.since,
    'sentence', t.sentence, 'state', case when t.cleared_at is not null then 'cleared' when t.told_at is null
      then 'raised' else 'lasts' end) order by t.name, t.policy), '[]')
  into v_alerts from told t;
  return jsonb_build_object('alerts', v_alerts);
end
$$;

-- Note that alerts ([{"name", "policy"}]) were told, or that nothing has to be told of them.
create or replace function public.lull_settle_alerts(p_told jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '8s'
set lock_timeout = '2s'
as $$
declare
  v_server constant name := lull.require_server();
  v_settled integer;
begin
  delete from lull.alert_states s using jsonb_to_recordset(p_told) t (name text, policy text)
  where s.name = t.name and s.policy = t.policy and s.cleared_at is not null;
  update lull.alert_states s set told_at = now(), claimed_until = null
  from jsonb_to_recordset(p_told) t (name text, policy text)
  where s.name = t.name and s.policy = t.policy;
  get diagnostics v_settled = row_count;
  return jsonb_build_object('settled', v_settled);
end
$$;
