-- Sessions, limits: how many drafts and games somebody may open, decided in the transaction that creates the next one.
--
-- Whoever creates is known by up to two keys: a signed-in user by their id, and everybody by their client address (a
-- keyed hash, made in Python). rate_counters holds a row per key. Its lock, taken in sorted order, is what makes the
-- decision atomic: two creations that share a key come one after the other. What is open is counted under that lock,
-- for a user by owner, and for somebody without an account by address.

-- Count a creation against p_limits: {"client_hash", "open_drafts", "drafts_per_hour", "open_games"}, where a limit of
-- null does not hold. Raises 429 with the limits as they are when one is reached; then nothing is counted.
-- Returns the limits that hold for this creation, it included: [{"name", "limit", "window", "remaining", "reset"}],
-- where window and reset are in seconds, and null where no window is counted.
create or replace function lull.count_creation(p_kind text, p_status text, p_owner uuid, p_limits jsonb)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_keys text[];
  v_limits jsonb := '[]';
begin
  if p_limits is null or (p_status <> 'draft' and p_kind <> 'game') then
    return v_limits;
  end if;
  v_keys := lull.lock_counters(array_remove(array['user:' || p_owner, 'client:' || (p_limits ->> 'client_hash')], null));
  if p_status = 'draft' then
    v_limits := lull.open_drafts(p_owner, p_limits) || lull.drafts_per_hour(v_keys, p_limits);
  end if;
  if p_kind = 'game' then
    v_limits := v_limits || lull.open_games(p_owner, p_limits);
  end if;
  perform lull.refuse_over_limit(v_limits);
  if p_status = 'draft' then
    update lull.rate_counters set count = count + 1 where key = any (v_keys);
  end if;
  return (
    select coalesce(jsonb_agg(
      l - 'retry_after' || jsonb_build_object('remaining', (l ->> 'remaining')::integer - 1)), '[]')
    from jsonb_array_elements(v_limits) l);
end
$$;

-- Lock the counters of these keys, in sorted order, and begin a new window where the last one is over. Returns the keys.
create or replace function lull.lock_counters(p_keys text[])
returns text[]
language plpgsql
set search_path = ''
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

-- A limit as it stands: p_used of p_limit. An empty array when there is no such limit.
create or replace function lull.limit_json(
  p_name text, p_limit integer, p_used bigint, p_window integer, p_reset integer, p_retry_after integer)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select case when p_limit is null then '[]' else jsonb_build_array(jsonb_build_object(
    'name', p_name, 'limit', p_limit, 'window', p_window, 'remaining', greatest(p_limit - p_used, 0),
    'reset', p_reset, 'retry_after', p_retry_after)) end;
$$;

-- The hourly limit, by user and by client address; the caller holds the counters' locks.
create or replace function lull.drafts_per_hour(p_keys text[], p_limits jsonb)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(l.state), '[]')
  from lull.rate_counters c
  cross join lateral (
    select least(ceil(extract(epoch from c.window_start + interval '1 hour' - now())), 3600)::integer as seconds) r
  cross join lateral jsonb_array_elements(lull.limit_json(
    'drafts-per-hour-by-' || split_part(c.key, ':', 1), (p_limits ->> 'drafts_per_hour')::integer, c.count, 3600,
    r.seconds, r.seconds)) l (state)
  where c.key = any (p_keys);
$$;

-- The limit on open drafts. One goes, at the latest, when the cleanup takes the one that was idle longest.
create or replace function lull.open_drafts(p_owner uuid, p_limits jsonb)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select lull.limit_json('open-drafts', (p_limits ->> 'open_drafts')::integer, o.used, null, null,
    lull.seconds_until_cleaned(o.oldest, 'draft'))
  from (
    select count(*) as used, min(last_activity_at) as oldest
    from lull.sessions
    where status = 'draft' and owner_id = p_owner
    union all
    select count(*), min(last_activity_at)
    from lull.sessions
    where p_owner is null and status = 'draft' and client_hash = decode(p_limits ->> 'client_hash', 'hex')
  ) o
  order by o.used desc
  limit 1;
$$;

-- The limit on games that are not over.
create or replace function lull.open_games(p_owner uuid, p_limits jsonb)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select lull.limit_json('open-games', (p_limits ->> 'open_games')::integer, o.used, null, null,
    lull.seconds_until_cleaned(o.oldest, 'active'))
  from (
    select count(*) as used, min(last_activity_at) as oldest
    from lull.sessions
    where kind = 'game' and status <> 'ended' and owner_id = p_owner
    union all
    select count(*), min(last_activity_at)
    from lull.sessions
    where p_owner is null and kind = 'game' and status <> 'ended'
      and client_hash = decode(p_limits ->> 'client_hash', 'hex')
  ) o
  order by o.used desc
  limit 1;
$$;

-- In how many seconds a policy takes a session of this status that was last used then: a minute at least, an hour when
-- none does.
create or replace function lull.seconds_until_cleaned(p_last_activity timestamptz, p_status text)
returns integer
language sql
stable
set search_path = ''
as $$
  select coalesce(greatest(ceil(extract(epoch from p_last_activity + min(age) - now())), 60), 3600)::integer
  from lull.policies
  where target = 'lull.sessions' and clock = 'last_activity_at' and equals ->> 'status' = p_status;
$$;

-- Refuse when one of these limits is reached: 429, with how long to wait for the last of those that are, and the state
-- of all. Does nothing otherwise.
create or replace function lull.refuse_over_limit(p_limits jsonb)
returns void
language plpgsql
set search_path = ''
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
      case v_reached ->> 'name'
        when 'open-drafts' then format(
          '%s drafts are open, which is the limit. Nothing was created; send a first message in one, or end one.',
          v_reached ->> 'limit')
        when 'open-games' then format('%s games are open, which is the limit. Nothing was created; end one.',
          v_reached ->> 'limit')
        else format('%s drafts were created within an hour, which is the limit. Nothing was created; try again later.',
          v_reached ->> 'limit')
      end,
      jsonb_build_object(
        'limit', v_reached -> 'name', 'retryAfter', v_reached -> 'retry_after', 'limits', p_limits)::text);
  end if;
end
$$;
