-- Insight, the funnel: what became of drafts.

-- The funnel of chat drafts by the day of their creation, for the last p_days days, today included, from the event log
-- and its roll-ups. They outlive the session, so deleted drafts count. Each column counts drafts that were created on
-- that day, whenever the other event happened. Beside it the conversion rate by the sessions that still exist.
--   created    drafts created          activated   of these, with a first message by now; in 24 hours, 7 days
--   abandoned  deleted by the cleanup  restored    restored after that    discarded   ended by their owner
--   complete   whether the day is over for 7 days: until then more of its drafts may be activated within 7 days
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
  with span as materialized (
    select t.today, t.today - (p_days - 1) as first from lull.statistics_today() t (today)
  ), counted as (
    select d.day::date as day,
      coalesce(sum(c.n) filter (where c.measure = 'drafts'), 0) as created,
      coalesce(sum(c.n) filter (where c.measure = 'activated'), 0) as activated,
      coalesce(sum(c.n) filter (where c.measure = 'activated' and c.bucket = 1), 0) as activated_in_24_hours,
      coalesce(sum(c.n) filter (where c.measure = 'activated' and c.bucket <= 2), 0) as activated_in_7_days,
      coalesce(sum(c.n) filter (where c.measure = 'abandoned'), 0) as abandoned,
      coalesce(sum(c.n) filter (where c.measure = 'restored'), 0) as restored,
      coalesce(sum(c.n) filter (where c.measure = 'discarded'), 0) as discarded,
      d.day::date < s.today - 7 as complete
    from span s
    cross join lateral generate_series(s.first, s.today, interval '1 day') d (day)
    left join lull.daily_cells((select first from span)) c on c.day = d.day::date and c.kind = 'chat'
    group by d.day, s.today
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
