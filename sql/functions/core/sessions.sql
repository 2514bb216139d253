-- Sessions: their lock, their JSON, and their callers.
--
-- A writer locks the session before it reads or writes anything below it: that order prevents deadlocks. A caller is
-- {"service": true} or {"user_id", "token_hash"} (either may be null; the hash in hexadecimal). A caller that is not
-- the owner gets the same 404 as for a session that does not exist, by the same path.

-- Lock one session against the cleanup and against other transitions; children may still be added by others.
-- Returns the row, or null when there is none. A writer takes this lock first and child rows afterwards.
create or replace function lull.lock_session(p_session uuid)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_session lull.sessions;
begin
  select * into v_session
  from lull.sessions
  where id = p_session
  for no key update;
  return v_session;
end
$$;

-- A session as callers see it.
create or replace function lull.session_json(p_session lull.sessions)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object(
    'id', p_session.id, 'kind', p_session.kind, 'status', p_session.status, 'title', p_session.title,
    'external_key', p_session.external_key, 'mode', p_session.mode, 'metadata', p_session.metadata,
    'version', p_session.version, 'created_at', p_session.created_at,
    'first_message_at', p_session.first_message_at, 'last_activity_at', lull.active_at(p_session),
    'paused_at', p_session.paused_at, 'ended_at', p_session.ended_at, 'end_reason', p_session.end_reason,
    'expired', lull.is_expired(p_session))
    || case p_session.kind when 'game' then jsonb_build_object(
      'guild_id', p_session.guild_id, 'fence', p_session.fence, 'instance', p_session.instance_id) else '{}' end;
end
$$;

-- A game as the service sees it: with its state.
create or replace function lull.game_json(p_session lull.sessions)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return lull.session_json(p_session) || jsonb_build_object('state', p_session.state);
end
$$;

-- Whether a caller may act for a session of this owner.
create or replace function lull.is_owner(p_owner uuid, p_token_hash bytea, p_caller jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((p_caller ->> 'service')::boolean, false)
    or coalesce(p_owner = (p_caller ->> 'user_id')::uuid, false)
    or coalesce(p_token_hash = decode(p_caller ->> 'token_hash', 'hex'), false);
end
$$;

-- Raise 404 or 410 unless a session is there and the caller's.
create or replace function lull.check_owner(p_session lull.sessions, p_id uuid, p_caller jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_session.id is null or not lull.is_owner(p_session.owner_id, p_session.owner_token_hash, p_caller) then
    perform lull.no_such_session(p_id, p_caller);
  end if;
end
$$;

-- Lock a session of the caller's. Raises 404 or 410 when there is none.
create or replace function lull.lock_own_session(p_session uuid, p_caller jsonb)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_session lull.sessions := lull.lock_session(p_session);
begin
  perform lull.check_owner(v_session, p_session, p_caller);
  return v_session;
end
$$;

-- Record activity of a caller's session: lock it and move its clock forward, never back. Any child write belongs behind
-- this call in the same transaction; it raises 404 or 410 when the session is gone, so that no write is lost silently.
create or replace function lull.touch_session(p_session uuid, p_caller jsonb default '{"service": true}')
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_session lull.sessions := lull.lock_own_session(p_session, p_caller);
begin
  update lull.sessions
  set last_activity_at = greatest(last_activity_at, now())
  where id = p_session
  returning * into v_session;
  return v_session;
end
$$;

-- Activate a locked session of lull.sessions that is a draft; one that is active is left as it is. Returns {"session",
-- "activated"}.
create or replace function lull.activate_locked(p_session lull.sessions, p_restored jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_activated boolean := p_session.status = 'draft';
begin
  if v_activated then
    update lull.sessions
    set status = 'active', first_message_at = now(), version = version + 1,
      last_activity_at = greatest(last_activity_at, now())
    where id = p_session.id
    returning * into p_session;
    perform lull.append_event(p_session.id, p_session.kind, 'activated');
    if p_session.kind = 'game' then
      perform lull.append_game_event(p_session.id, 'initialized');
    end if;
  elsif p_restored is not null then
    -- It comes back as old as it went: without this, the next run would take it again.
    update lull.sessions
    set last_activity_at = greatest(last_activity_at, now())
    where id = p_session.id
    returning * into p_session;
  end if;
  return jsonb_build_object('session', lull.session_json(p_session), 'activated', v_activated);
end
$$;
