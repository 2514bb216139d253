-- Core: callers, and whose session it is.
--
-- A caller is {"service": true} or {"user_id", "token_hash"} (either may be null; the hash in hexadecimal). Whoever is
-- not the owner gets the same 404 as for a session that does not exist, by the same path.

-- Whether a caller may act for a session that belongs to this owner.
create or replace function lull.is_owner(p_owner uuid, p_token_hash bytea, p_caller jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select coalesce((p_caller ->> 'service')::boolean, false)
    or coalesce(p_owner = (p_caller ->> 'user_id')::uuid, false)
    or coalesce(p_token_hash = decode(p_caller ->> 'token_hash', 'hex'), false);
$$;

-- Say that a session is not there for this caller: 410 to the owner of one that the cleanup took, 404 to anybody
-- else. Never returns.
create or replace function lull.no_such_session(p_session uuid, p_caller jsonb)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select 1 from lull.archive a
    where a.target = 'lull.sessions' and a.key = p_session::text
      and lull.is_owner((a.row ->> 'owner_id')::uuid, (a.row ->> 'owner_token_hash')::bytea, p_caller)
  ) then
    perform lull.refuse(410, 'session-archived',
      'This session was cleaned up after it had not been used. Activating it brings it back.');
  elsif exists (
    select 1 from lull.tombstones t
    where t.session_id = p_session and lull.is_owner(t.owner_id, t.owner_token_hash, p_caller)
  ) then
    perform lull.refuse(410, 'session-gone',
      'This session was cleaned up after it had not been used, and can not be brought back any more.');
  end if;
  perform lull.refuse(404, 'not-found', 'There is no such session.');
end
$$;

-- Lock a session of the caller's. Raises 404 or 410 when there is none.
create or replace function lull.lock_own_session(p_session uuid, p_caller jsonb)
returns lull.sessions
language plpgsql
set search_path = ''
as $$
declare
  v_session lull.sessions := lull.lock_session(p_session);
begin
  if v_session.id is null or not lull.is_owner(v_session.owner_id, v_session.owner_token_hash, p_caller) then
    perform lull.no_such_session(p_session, p_caller);
  end if;
  return v_session;
end
$$;

-- Record activity of a caller's session: lock it and move its clock forward, never back. Any child write belongs behind
-- this call in the same transaction; it raises 404 or 410 when the session is gone, so that nobody is told "saved".
create or replace function lull.touch_session(p_session uuid, p_caller jsonb default '{"service": true}')
returns lull.sessions
language plpgsql
set search_path = ''
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
