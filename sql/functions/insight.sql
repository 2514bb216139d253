-- Insight: read-only numbers for operators.

-- The funnel of chat drafts per day (UTC) for the last p_days days, today included, from the ledger: it outlives the
-- session, so drafts that were deleted count. Beside it seed 003's own conversion query over the same time, which
-- reads the sessions that are still there.
--   created    drafts begun            activated   drafts that got their first message
--   abandoned  drafts the cleanup took restored    of those, brought back     discarded   drafts ended by their owner
create or replace function public.lull_funnel(p_days integer default 7)
returns jsonb
language sql
stable
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  with event as (
    select (at at time zone 'UTC')::date as day, event, data
    from lull.session_events
    where kind = 'chat' and at >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC'
      - make_interval(days => p_days - 1)
  ), counted as (
    select d.day::date as day,
      count(*) filter (where e.event = 'created' and e.data ->> 'status' = 'draft') as created,
      count(*) filter (where e.event = 'activated') as activated,
      count(*) filter (where e.event in ('archived', 'purged') and e.data ? 'policy'
        and e.data ->> 'status' = 'draft') as abandoned,
      count(*) filter (where e.event = 'restored') as restored,
      count(*) filter (where e.event = 'ended' and e.data ->> 'reason' = 'discarded') as discarded
    from generate_series(
      (now() at time zone 'UTC')::date - (p_days - 1), (now() at time zone 'UTC')::date, interval '1 day') d (day)
    left join event e on e.day = d.day::date
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
