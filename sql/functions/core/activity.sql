-- Activity: when a session was last used, and when it expires. Expiry, joins, warnings, recovery and the cleanup read
-- these functions and nothing else. They are in plpgsql because a connection keeps its plans: a heartbeat calls two.

-- When a session was last used: the newest of its own clock, its last command, and all its participants' last_seen_at,
-- active or not. Locks nothing.
create or replace function lull.active_at(p_session lull.sessions)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if greatest(p_session.last_activity_at, p_session.commanded_at) >= now() then
    return greatest(p_session.last_activity_at, p_session.commanded_at);  -- by this transaction: none is newer
  end if;
  return greatest(p_session.last_activity_at, p_session.commanded_at, (
    select max(p.last_seen_at) from lull.session_participants p where p.session_id = p_session.id));
end
$$;

-- The age after which an active session of this kind is expired: the shortest age of the policies that act on active
-- sessions of the kind. Null when no policy does: such a session never expires.
create or replace function lull.expire_after(p_kind text)
returns interval
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select age from lull.timeouts where kind = p_kind);
end
$$;

-- How long before its expiry a session of this kind is warned about: the policy's warning time, at most half its age.
-- Null: no warning.
create or replace function lull.warn_before(p_kind text)
returns interval
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (select warn_before from lull.timeouts where kind = p_kind);
end
$$;

-- Whether a session has expired: active, and not used for its policy's age. Its participants are read only where its
-- own clocks are past it.
create or replace function lull.is_expired(p_session lull.sessions)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_cutoff timestamptz;
begin
  if p_session.status is distinct from 'active'
    or greatest(p_session.last_activity_at, p_session.commanded_at) >= now()
  then
    return false;
  end if;
  v_cutoff := now() - lull.expire_after(p_session.kind);
  if v_cutoff is null or greatest(p_session.last_activity_at, p_session.commanded_at) >= v_cutoff then
    return false;
  end if;
  return coalesce(lull.active_at(p_session) < v_cutoff, false);
end
$$;

-- When a session of this kind and status expires that was last used at p_active_at, and when it is warned about, as
-- {"status", "expires_at", "warn_at"}; both null for one that does not expire.
create or replace function lull.expiry_json(p_kind text, p_status text, p_active_at timestamptz)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_timeout lull.timeouts;
begin
  if p_status = 'active' then
    select * into v_timeout from lull.timeouts where kind = p_kind;
  end if;
  return jsonb_build_object('status', p_status, 'expires_at', p_active_at + v_timeout.age, 'warn_at',
    p_active_at + v_timeout.age - v_timeout.warn_before);
end
$$;

-- An age in words: `1 hour`, `2.5 hours`.
create or replace function lull.hours_in_words(p_age interval)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select h || case h when 1 then ' hour' else ' hours' end
  from (select trim_scale(round(extract(epoch from p_age) / 3600, 2))) x (h);
$$;
