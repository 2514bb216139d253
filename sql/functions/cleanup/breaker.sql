-- Cleanup, the breaker: what it stops, and what the next run will say.

-- The breaker: how many rows a policy may take, and why it must not start. An operator's p_max_rows takes the place
-- of every limit: the operator who names it has read how many rows there are, and how many below them. Growth is
-- compared by day, so that a week without a run is allowed a week's rows.
-- Returns {"limit", "stop", "stop_reason"}.
create or replace function lull.breaker_of(p_policy lull.policy_definition, p_preview jsonb, p_max_rows bigint)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_would bigint := (p_preview ->> 'would')::bigint;
  v_more text := case when (p_preview ->> 'capped')::boolean then 'more than ' else '' end;
  v_limit bigint := coalesce(p_max_rows, p_policy.max_rows);
  v_median numeric;
  v_days numeric;
  v_growth bigint;
  v_matching bigint;
  v_stop text;
  v_reason text;
begin
  if p_max_rows is null and p_policy.growth_factor is not null then
    select o_median, o_days into v_median, v_days
    from lull.usual_rows(p_policy.name, (p_preview ->> 'cutoff')::timestamptz + p_policy.age);
    v_growth := greatest(p_policy.growth_floor, ceil(p_policy.growth_factor * v_median * v_days));
  end if;

  if v_would > v_limit or (v_more <> '' and v_would >= v_limit) then
    v_stop := 'max_rows';
    v_reason := format('%s%s rows would go and the limit is %s', v_more, v_would, v_limit);
  elsif v_median is not null and v_would > v_growth then
    v_stop := 'max_growth';
    v_reason := format('%s rows would go, and its runs took %s a day (median)%s; the limit is now %s',
      v_would, v_median::bigint,
      case when v_days >= 1.05 then format(', the last one %s days ago', round(v_days, 1)) else '' end, v_growth);
  elsif p_max_rows is null and (p_preview ->> 'cascaded_total')::bigint > p_policy.max_cascaded then
    v_stop := 'max_cascaded';
    v_reason := format('%s rows below them would go along and the limit is %s',
      p_preview ->> 'cascaded_total', p_policy.max_cascaded);
  elsif p_policy.max_percent is not null and p_max_rows is null and v_would > 0 then
    execute format('select count(*) from %s t where %s', p_policy.target::regclass, lull.definition_condition(p_policy))
    into v_matching;
    if 100.0 * v_would > p_policy.max_percent * v_matching then
      v_stop := 'max_percent';
      v_reason := format('%s of %s rows would go and the limit is %s %%', v_would, v_matching, p_policy.max_percent);
    end if;
  end if;
  return jsonb_build_object(
    'limit', case when v_median is null then v_limit else least(v_limit, v_growth) end,
    'stop', v_stop, 'stop_reason', v_reason);
end
$$;

-- How many rows a policy took a day: the median of its last 14 days with a completed run. And how many days before p_at
-- the last of these runs was, at least one.
create or replace function lull.usual_rows(
  p_policy text, p_at timestamptz, out o_median numeric, out o_days numeric)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select percentile_cont(0.5) within group (order by d.did),
    greatest(1, extract(epoch from p_at - max(d.last)) / 86400)
  from (
    select sum(p.did) as did, max(p.completed_at) as last
    from lull.cleanup_run_policies p
    where p.policy = p_policy and p.outcome = 'completed'
    group by (p.completed_at at time zone 'UTC')::date
    order by (p.completed_at at time zone 'UTC')::date desc
    limit 14
  ) d;
$$;

-- What the next run will do about the rows that a run had no time for: one sentence. An operator's limit was for that
-- run only.
create or replace function lull.next_run_of(p_line lull.cleanup_run_policies, p_at timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce('the next run will stop: ' || (lull.breaker_of(
      lull.read_definition(p_line.definition || '{"max_percent": null}', 0),
      jsonb_build_object('would', greatest(0, p_line.would - p_line.did), 'capped', p_line.capped,
        'cutoff', p_at - make_interval(secs => (p_line.definition ->> 'age_seconds')::double precision),
        'cascaded_total', greatest(0, -p_line.cascaded + coalesce(
          (select sum(c.value::bigint) from jsonb_each_text(p_line.would_cascade) c), 0))), null) ->> 'stop_reason')
      || '; give policy and maxRows again', 'the next run goes on');
$$;
