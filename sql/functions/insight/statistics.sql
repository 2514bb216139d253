-- Insight: read-only numbers for operators.

-- The funnel of chat drafts by the day (UTC) of their creation, for the last p_days days, today included, from the
-- event log. The log outlives the session, so deleted drafts count. Each column counts drafts that were created on that
-- day, whenever the other event happened. Beside it the conversion rate by the sessions that still exist.
--   created    drafts created          activated   of these, with a first message by now
--   abandoned  deleted by the cleanup  restored    restored after that    discarded   ended by their owner
create or replace function public.lull_funnel(p_days integer default 7)
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
  with draft as (
    select (c.at at time zone 'UTC')::date as day,
      bool_or(e.event = 'activated') as activated,
      bool_or(e.event in ('archived', 'purged') and e.data ? 'policy' and e.data ->> 'status' = 'draft') as abandoned,
      bool_or(e.event = 'restored') as restored,
      bool_or(e.event = 'ended' and e.data ->> 'reason' = 'discarded') as discarded
    from lull.session_events c
    join lull.session_events e on e.session_id = c.session_id and e.id >= c.id
    where c.kind = 'chat' and c.event = 'created' and c.data ->> 'status' = 'draft'
      and c.at >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - make_interval(days => p_days - 1)
    group by c.id
  ), counted as (
    select d.day::date as day,
      count(c.day) as created,
      count(*) filter (where c.activated) as activated,
      count(*) filter (where c.abandoned) as abandoned,
      count(*) filter (where c.restored) as restored,
      count(*) filter (where c.discarded) as discarded
    from generate_series(
      (now() at time zone 'UTC')::date - (p_days - 1), (now() at time zone 'UTC')::date, interval '1 day') d (day)
    left join draft c on c.day = d.day::date
    group by d.day
  )
  select jsonb_build_object(
    'days', (select jsonb_agg(to_jsonb(c) order by c.day) from counted c),
    'totals', (
      select jsonb_build_object('created', sum(created), 'activated', sum(activated), 'abandoned', sum(abandoned),
        'restored', sum(restored), 'discarded', sum(discarded),
        'conversion_rate_percent', round(100.0 * sum(activated) / nullif(sum(created), 0), 2))
      from counted),
    'conversion', (
      select jsonb_build_object('total_drafts', count(*), 'activated', count(first_message_at),
        'conversion_rate_percent', round(100.0 * count(first_message_at) / nullif(count(*), 0), 2))
      from lull.sessions
      where kind = 'chat' and created_at > now() - make_interval(days => p_days) and status in ('draft', 'active')));
$$;

-- The numbers of the monitoring list over the last p_days days (UTC), today included. Drafts and uploads are counted
-- from the event log, which outlives the sessions. A registered upload is pending for 150 minutes: Storage's signed URL
-- is valid for 120 minutes, and an upload in progress may take longer. Returns
-- {"at", "days", "drafts", "uploads", "cleanup" or null, "events", "database_bytes"}.
create or replace function public.lull_stats(p_days integer default 7)
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
  with span as (
    select date_trunc('day', now()) as today, date_trunc('day', now()) - make_interval(days => p_days - 1) as first
  ), draft as (
    select count(*) filter (where e.at >= s.today) as today, count(*) filter (where e.at < s.today) as before
    from span s
    join lull.session_events e on e.at >= s.first
    where e.kind = 'chat' and e.event = 'created' and e.data ->> 'status' = 'draft'
  ), upload as (
    select count(*) as registered,
      count(*) filter (where u.uploaded) as uploaded,
      count(*) filter (where not u.uploaded and u.at < now() - interval '150 minutes') as expired,
      count(*) filter (where not u.uploaded and u.at >= now() - interval '150 minutes') as pending
    from (
      select e.at, exists (
          select 1 from lull.session_events o
          where o.session_id = e.session_id and o.id > e.id and o.event = 'file-uploaded'
            and o.data ->> 'file' = e.data ->> 'file') as uploaded
      from span s
      join lull.session_events e on e.at >= s.first
      where e.event = 'file-registered'
    ) u
  )
  select jsonb_build_object(
    'at', now(),
    'days', p_days,
    'drafts', (
      select jsonb_build_object('created_today', today,
        'created_per_day', round(before::numeric / nullif(p_days - 1, 0), 2))
      from draft),
    'uploads', (
      select to_jsonb(upload) || jsonb_build_object(
        'success_rate_percent', round(100.0 * uploaded / nullif(uploaded + expired, 0), 2))
      from upload),
    'cleanup', (
      select jsonb_build_object('status', status, 'finished_at', finished_at)
      from lull.cleanup_runs
      where finished_at is not null
      order by started_at desc
      limit 1),
    'events', (
      select jsonb_build_object('pending', count(*), 'oldest_pending_at', min(queued_at), 'dead', (
        select count(*) from lull.deliveries where state = 'dead' and settled_at > now() - interval '30 days'))
      from lull.deliveries
      where state = 'queued'),
    'database_bytes', (
      select sum(pg_total_relation_size(c.oid)) from pg_catalog.pg_class c
      where c.relnamespace = 'lull'::regnamespace and c.relkind = 'r'));
$$;
