-- Sessions, limits: how many drafts and games an owner may open, and how much may be created within an hour, decided in
-- the transaction that creates the next one.
--
-- A creator is known by up to two keys: a signed-in user by their id, and every caller by its client address (a keyed
-- hash, made in Python). rate_counters holds a row per key and thing counted. Its lock, taken in sorted order, is what
-- makes the decision atomic: two creations that share a key come one after the other. What is open is counted under
-- that lock, for a user by owner, and for a caller without an account by address.

-- Count a creation against p_limits: {"client_hash", "open_drafts", "open_games", "drafts_per_hour",
-- "active_per_hour", "bytes_per_hour", "bytes" (of this one's metadata), "interval_minutes" (between cleanups)}, where
-- a limit of null does not hold. Raises 429 with the limits as they are when one is reached; then nothing is counted.
-- Locks the counters. Returns the limits that hold for this creation, it included: [{"name", "limit", "window",
-- "remaining", "reset"}], where window and reset are in seconds, and null where no window is counted.
create or replace function lull.count_creation(p_kind text, p_status text, p_owner uuid, p_limits jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_limits jsonb := '[]';
begin
  if p_limits is null then
    return v_limits;
  end if;
  perform lull.lock_counters(array(
    select h.key from lull.hourly_limits(p_status, p_owner, p_limits) h
    union
    select k
    from unnest(array['user:' || p_owner, 'client:' || (p_limits ->> 'client_hash')]) k
    where k is not null and (p_status = 'draft' or p_kind = 'game')));
  if p_status = 'draft' then
    v_limits := lull.open_drafts(p_owner, p_limits);
  end if;
  v_limits := v_limits || lull.hourly_state(p_status, p_owner, p_limits);
  if p_kind = 'game' then
    v_limits := v_limits || lull.open_games(p_owner, p_limits);
  end if;
  perform lull.refuse_over_limit(v_limits);
  update lull.rate_counters c set count = c.count + h.cost
  from lull.hourly_limits(p_status, p_owner, p_limits) h
  where c.key = h.key;
  return (
    select coalesce(jsonb_agg(
      l - 'retry_after' - 'cost' || jsonb_build_object(
        'remaining', (l ->> 'remaining')::integer - coalesce((l ->> 'cost')::integer, 1))), '[]')
    from jsonb_array_elements(v_limits) l);
end
$$;

-- The hourly limits that hold for a creation, by the key of their counter: drafts by user and by address, sessions that
-- begin active by the address of a caller without an account, bytes of metadata by user, or else by address.
create or replace function lull.hourly_limits(p_status text, p_owner uuid, p_limits jsonb)
returns table (key text, name text, most integer, cost integer)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select h.key, h.name, h.most, h.cost
  from (values
    ('user:' || p_owner, 'drafts-per-hour-by-user',
      case p_status when 'draft' then p_limits -> 'drafts_per_hour' end, 1),
    ('client:' || (p_limits ->> 'client_hash'), 'drafts-per-hour-by-client',
      case p_status when 'draft' then p_limits -> 'drafts_per_hour' end, 1),
    (case when p_owner is null then 'active:' || (p_limits ->> 'client_hash') end, 'active-per-hour-by-client',
      case p_status when 'draft' then null else p_limits -> 'active_per_hour' end, 1),
    ('bytes-user:' || p_owner, 'bytes-per-hour-by-user',
      p_limits -> 'bytes_per_hour', (p_limits ->> 'bytes')::integer),
    (case when p_owner is null then 'bytes-client:' || (p_limits ->> 'client_hash') end, 'bytes-per-hour-by-client',
      p_limits -> 'bytes_per_hour', (p_limits ->> 'bytes')::integer)
  ) l (key, name, most, cost)
  cross join lateral (select l.key, l.name, (l.most #>> '{}')::integer as most, coalesce(l.cost, 0) as cost) h
  where h.key is not null and h.most is not null;
$$;

-- The hourly limits as they are; one that this creation's cost would pass is reached. The caller holds the counters'
-- locks.
create or replace function lull.hourly_state(p_status text, p_owner uuid, p_limits jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(l.state || jsonb_build_object('cost', h.cost) order by h.name), '[]')
  from lull.hourly_limits(p_status, p_owner, p_limits) h
  join lull.rate_counters c on c.key = h.key
  cross join lateral (
    select least(ceil(extract(epoch from c.window_start + interval '1 hour' - now())), 3600)::integer as seconds) r
  cross join lateral jsonb_array_elements(lull.limit_json(
    h.name, h.most, case when c.count + h.cost > h.most then h.most else c.count end, 3600, r.seconds,
    r.seconds)) l (state);
$$;

-- Refuse (429) to make a user the owner of a draft or a game that would be one too many. Locks the user's counter, as a
-- creation does; the caller holds the session's lock.
create or replace function lull.check_claim(p_session lull.sessions, p_user uuid, p_limits jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_limits jsonb := '[]';
begin
  if p_limits is not null then
    perform lull.lock_counters(array['user:' || p_user]);
    if p_session.status = 'draft' then
      v_limits := lull.open_drafts(p_user, p_limits);
    end if;
    if p_session.kind = 'game' and p_session.status <> 'ended' then
      v_limits := v_limits || lull.open_games(p_user, p_limits);
    end if;
    perform lull.refuse_over_limit(v_limits);
  end if;
end
$$;

-- The limit on open drafts. One goes, at the latest, when the cleanup takes the first of them.
create or replace function lull.open_drafts(p_owner uuid, p_limits jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select lull.limit_json('open-drafts', (p_limits ->> 'open_drafts')::integer, count(*), null, null,
    lull.seconds_until_run(min(o.cleaned_at), (p_limits ->> 'interval_minutes')::integer))
  from (
    select lull.cleaned_at(s)
    from lull.sessions s
    where s.status = 'draft' and s.owner_id = p_owner
    union all
    select lull.cleaned_at(s)
    from lull.sessions s
    where p_owner is null and s.status = 'draft' and s.client_hash = decode(p_limits ->> 'client_hash', 'hex')
  ) o (cleaned_at);
$$;

-- The limit on games that are not over.
create or replace function lull.open_games(p_owner uuid, p_limits jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select lull.limit_json('open-games', (p_limits ->> 'open_games')::integer, count(*), null, null,
    lull.seconds_until_run(min(o.cleaned_at), (p_limits ->> 'interval_minutes')::integer))
  from (
    select lull.cleaned_at(s)
    from lull.sessions s
    where s.kind = 'game' and s.status <> 'ended' and s.owner_id = p_owner
    union all
    select lull.cleaned_at(s)
    from lull.sessions s
    where p_owner is null and s.kind = 'game' and s.status <> 'ended'
      and s.client_hash = decode(p_limits ->> 'client_hash', 'hex')
  ) o (cleaned_at);
$$;

-- When a session becomes stale, if nothing happens to it. Null when no policy takes its kind and status, and when it is
-- held.
create or replace function lull.cleaned_at(p_session lull.sessions)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when not p_session.hold then p_session.last_activity_at + min(age) end
  from lull.policies
  where target = 'lull.sessions' and clock = 'last_activity_at'
    and p_session.kind = coalesce(equals ->> 'kind', p_session.kind)
    and p_session.status = coalesce(equals ->> 'status', p_session.status);
$$;

-- The seconds until the first cleanup that finds stale what is stale at p_stale_at: at least 60, and null for null.
-- Runs are expected every p_interval_minutes after the last one; with null, at any time.
create or replace function lull.seconds_until_run(p_stale_at timestamptz, p_interval_minutes integer)
returns integer
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select greatest(ceil(extract(epoch from coalesce(
    r.due + make_interval(mins => p_interval_minutes) * greatest(ceil(
      (extract(epoch from p_stale_at - r.due) / (60 * p_interval_minutes))::numeric), 0)::integer,
    p_stale_at) - now())), 60)::integer
  from (
    select greatest(max(started_at) + make_interval(mins => p_interval_minutes), now()) as due from lull.cleanup_runs
  ) r
  where p_stale_at is not null;
$$;
