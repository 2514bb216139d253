-- Core: what every wing builds on.
--
--   lock_session     lock a session before anything below it is read or written (the order that prevents deadlocks)
--   touch_session    move a session's clock forward, refusing when the session is gone
--   append_event     write the ledger while the session's (or archive row's) lock is held
--   session_gone     refuse: 410 for a purged or archived session, 404 for one that nobody knows
--   expire_after     how long an active session of a kind may be idle (from the effective policies)
--
-- Refusals are raised as SQLSTATE PTnnn: PostgREST answers HTTP nnn, `detail` is the problem type, `message` is for
-- a person. Archive and restore are in core_archive.sql.

-- Refuse with an HTTP status, a stable problem type and a sentence. Never returns.
create or replace function lull.refuse(p_status integer, p_type text, p_message text, p_hint text default '')
returns void
language plpgsql
set search_path = ''
as $$
begin
  raise exception using errcode = 'PT' || p_status, message = p_message, detail = p_type, hint = p_hint;
end
$$;

-- Lock one session against the cleanup and against other transitions; children may still be added by others.
-- Returns the row, or null when there is none. A writer takes this lock first and child rows afterwards.
create or replace function lull.lock_session(p_session uuid)
returns lull.sessions
language plpgsql
set search_path = ''
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

-- Say why a session is not there: 410 `session-gone` once it was archived or purged, else 404. Never returns.
create or replace function lull.session_gone(p_session uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (select 1 from lull.archive where target = 'lull.sessions' and key = p_session::text)
     or exists (select 1 from lull.tombstones where session_id = p_session) then
    perform lull.refuse(410, 'session-gone', 'This session was cleaned up after it had not been used.');
  end if;
  perform lull.refuse(404, 'not-found', 'There is no such session.');
end
$$;

-- Record activity: lock the session, then move its clock forward (never back). Any child write belongs behind this
-- call in the same transaction; it raises 404 or 410 when the session is gone, so that nobody is told "saved".
create or replace function lull.touch_session(p_session uuid)
returns lull.sessions
language plpgsql
set search_path = ''
as $$
declare
  v_session lull.sessions;
begin
  update lull.sessions
  set last_activity_at = greatest(last_activity_at, now())
  where id = p_session
  returning * into v_session;
  if not found then
    perform lull.session_gone(p_session);
  end if;
  return v_session;
end
$$;

-- Append to the ledger. The caller holds the session's lock, or that of its archive row.
create or replace function lull.append_event(p_session uuid, p_kind text, p_event text, p_data jsonb default '{}')
returns void
language sql
set search_path = ''
as $$
  insert into lull.session_events (session_id, kind, event, data)
  values (p_session, p_kind, p_event, p_data);
$$;

-- The age after which an active session of this kind is expired: the shortest age of the policies that act on active
-- sessions of the kind. Null when no policy does: such a session never expires.
create or replace function lull.expire_after(p_kind text)
returns interval
language sql
stable
set search_path = ''
as $$
  select min(age)
  from lull.policies
  where target = 'lull.sessions'
    and clock = 'last_activity_at'
    and equals ->> 'kind' = p_kind
    and equals ->> 'status' = 'active';
$$;
