-- Core: what every wing builds on.
--
--   lock_session     lock a session before anything below it is read or written (the order that prevents deadlocks)
--   append_event     write the ledger while the session's (or archive row's) lock is held
--   expire_after     how long an active session of a kind may be idle (from the effective policies)
--
-- Refusals are raised as SQLSTATE PTnnn: PostgREST answers HTTP nnn, `detail` is the problem type, `message` is for
-- a person. Callers are in core_callers.sql, archive and restore in core_archive.sql.

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

-- Append to the ledger, and broadcast where Supabase Realtime is there. The caller holds the session's lock, or that of
-- its archive row, so that the ledger's order is the order of what happened.
create or replace function lull.append_event(p_session uuid, p_kind text, p_event text, p_data jsonb default '{}')
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_event lull.session_events;
begin
  insert into lull.session_events (session_id, kind, event, data)
  values (p_session, p_kind, p_event, p_data)
  returning * into v_event;
  perform lull.broadcast(v_event);
end
$$;

-- Append one event for each of many lull.sessions documents (see core_archive.sql), with the status it had.
create or replace function lull.append_events(p_sessions jsonb[], p_event text, p_data jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_event lull.session_events;
  v_broadcasts boolean := to_regprocedure('realtime.send(jsonb, text, text, boolean)') is not null;
begin
  if not v_broadcasts then
    insert into lull.session_events (session_id, kind, event, data)
    select (s ->> 'id')::uuid, s ->> 'kind', p_event, p_data || jsonb_build_object('status', s ->> 'status')
    from unnest(p_sessions) s;
    return;
  end if;
  for v_event in
    insert into lull.session_events (session_id, kind, event, data)
    select (s ->> 'id')::uuid, s ->> 'kind', p_event, p_data || jsonb_build_object('status', s ->> 'status')
    from unnest(p_sessions) s
    returning *
  loop
    perform lull.broadcast(v_event);
  end loop;
end
$$;

-- Send an event to the private topic session:{id}, and for a game to game:{id} too. Does nothing where there is no
-- realtime.send; a broadcast that fails undoes nothing, because the ledger is what counts.
create or replace function lull.broadcast(p_event lull.session_events)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_topic text;
begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then
    return;
  end if;
  foreach v_topic in array
    case p_event.kind when 'game' then '{session,game}'::text[] else '{session}'::text[] end
  loop
    execute 'select realtime.send($1, $2, $3, true)'
    using jsonb_build_object('id', p_event.id, 'sessionId', p_event.session_id, 'kind', p_event.kind,
      'event', p_event.event, 'at', p_event.at, 'data', p_event.data - 'run'), p_event.event, v_topic || ':' || p_event.session_id;
  end loop;
exception when others then
  raise warning 'event % was not broadcast: %', p_event.id, sqlerrm;
end
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
