-- Limits: a counter row per key in lull.rate_counters. Rows are locked in sorted order, so that two requests that share
-- a key are decided one after the other. Also the JSON and the refusal of a limit.

-- Lock the counters of these keys, in sorted order, and begin a new window where the last one has ended. Returns
-- the keys.
create or replace function lull.lock_counters(p_keys text[])
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text;
begin
  for v_key in select k from unnest(p_keys) k order by k collate "C" loop
    insert into lull.rate_counters as c (key, window_start, count) values (v_key, now(), 0)
    on conflict (key) do update
      set window_start = case when c.window_start <= now() - interval '1 hour' then now() else c.window_start end,
        count = case when c.window_start <= now() - interval '1 hour' then 0 else c.count end;
  end loop;
  return p_keys;
end
$$;

-- Count p_cost against an hourly limit: refuse with 429 when p_most (null: no limit) would be passed, and count nothing
-- then. The caller holds the counter's lock (lull.lock_counters).
create or replace function lull.count_hourly(p_key text, p_name text, p_cost integer, p_most integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_used integer;
  v_seconds integer;
begin
  if p_most is null then
    return;
  end if;
  select c.count, least(ceil(extract(epoch from c.window_start + interval '1 hour' - now())), 3600)
  into v_used, v_seconds
  from lull.rate_counters c where c.key = p_key;
  if v_used + p_cost > p_most then
    perform lull.refuse_over_limit(lull.limit_json(p_name, p_most, p_most, 3600, v_seconds, v_seconds));
  end if;
  update lull.rate_counters set count = count + p_cost where key = p_key;
end
$$;

-- A limit as JSON, with p_used of p_limit used: an array with one object, empty when p_limit is null.
create or replace function lull.limit_json(
  p_name text, p_limit integer, p_used bigint, p_window integer, p_reset integer, p_retry_after integer)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when p_limit is null then '[]' else jsonb_build_array(jsonb_build_object(
    'name', p_name, 'limit', p_limit, 'window', p_window, 'remaining', greatest(p_limit - p_used, 0),
    'reset', p_reset, 'retry_after', p_retry_after)) end;
$$;

-- Refuse with 429 when one of these limits is reached. The hint has the longest wait in seconds (null when waiting does
-- not help), its limit, and the state of all limits. Does nothing otherwise.
create or replace function lull.refuse_over_limit(p_limits jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reached jsonb;
begin
  select l into v_reached
  from jsonb_array_elements(p_limits) l
  where (l ->> 'remaining')::integer = 0
  order by (l ->> 'retry_after')::integer desc
  limit 1;
  if v_reached is not null then
    perform lull.refuse(429, 'rate-limited',
      case
        when v_reached ->> 'name' = 'open-drafts' then format(
          '%s drafts are open, which is the limit. Nothing was done; send a first message in one, or end one.',
          v_reached ->> 'limit')
        when v_reached ->> 'name' = 'open-games' then format(
          '%s games are open, which is the limit. Nothing was done; end one.', v_reached ->> 'limit')
        when v_reached ->> 'name' like 'invite-failures-%' then format(
          '%s invitations were refused within an hour, which is the limit. Nothing was done; try again later.',
          v_reached ->> 'limit')
        when v_reached ->> 'name' like 'anonymous-joins-%' then format(
          '%s people without an account joined within an hour, which is the limit. Nothing was done; try again later.',
          v_reached ->> 'limit')
        when v_reached ->> 'name' like 'bytes-%' then format(
          'More than %s bytes of metadata within an hour, which is the limit. Nothing was done; try again later.',
          v_reached ->> 'limit')
        when v_reached ->> 'name' like '%-writes-per-hour' then format(
          'More than %s writes within an hour, which is the limit. Nothing was done; try again later.',
          v_reached ->> 'limit')
        else format('%s %s were created within an hour, which is the limit. Nothing was done; try again later.',
          v_reached ->> 'limit', case when v_reached ->> 'name' like 'active-%' then 'sessions' else 'drafts' end)
      end,
      jsonb_build_object(
        'limit', v_reached -> 'name', 'retryAfter', v_reached -> 'retry_after', 'limits', p_limits)::text);
  end if;
end
$$;
