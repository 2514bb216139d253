-- The event log. Events are appended while the session's lock (or that of its archive row) is held, so that the order
-- of the ids is the order of the events. sql/functions/events/ reads it.

-- Append to the event log, and broadcast where Supabase Realtime is installed. The caller holds the session's lock, or
-- that of its archive row, so that the order of the ids is the order of the events.
create or replace function lull.append_event(p_session uuid, p_kind text, p_event text, p_data jsonb default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event lull.session_events;
begin
  insert into lull.session_events (session_id, kind, event, data, request_id)
  values (p_session, p_kind, p_event, p_data, lull.request_id())
  returning * into v_event;
  perform lull.broadcast(v_event);
end
$$;

-- Append one event for each of many lull.sessions documents (see core/archive.sql), with the status in the document.
create or replace function lull.append_events(p_sessions jsonb[], p_event text, p_data jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event lull.session_events;
  v_request text := lull.request_id();
  v_broadcasts boolean := to_regprocedure('realtime.send(jsonb, text, text, boolean)') is not null;
begin
  if not v_broadcasts then
    insert into lull.session_events (session_id, kind, event, data, request_id)
    select (s ->> 'id')::uuid, s ->> 'kind', p_event, p_data || jsonb_build_object('status', s ->> 'status'), v_request
    from unnest(p_sessions) s;
    return;
  end if;
  for v_event in
    insert into lull.session_events (session_id, kind, event, data, request_id)
    select (s ->> 'id')::uuid, s ->> 'kind', p_event, p_data || jsonb_build_object('status', s ->> 'status'), v_request
    from unnest(p_sessions) s
    returning *
  loop
    perform lull.broadcast(v_event);
  end loop;
end
$$;

-- Append one event for each of many rows of a team's table that are sessions, by their keys. Nothing for other targets.
create or replace function lull.append_own_events(p_target text, p_keys text[], p_event text, p_data jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_kind text := (select kind from lull.targets where name = p_target and not builtin);
  v_request text := lull.request_id();
  v_event lull.session_events;
begin
  if v_kind is null then
    return;
  end if;
  for v_event in
    insert into lull.session_events (session_id, kind, event, data, target, request_id)
    select k::uuid, v_kind, p_event, p_data, p_target, v_request from unnest(p_keys) k
    returning *
  loop
    perform lull.broadcast(v_event);
  end loop;
end
$$;

-- Append one event for each of many rows of lull.sessions, by their places, with the status they have and the seconds
-- that they were idle.
create or replace function lull.append_session_events(p_ctids tid[], p_event text, p_data jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event lull.session_events;
  v_request text := lull.request_id();
begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then
    insert into lull.session_events (session_id, kind, event, data, request_id)
    select s.id, s.kind, p_event, p_data || jsonb_build_object('status', s.status, 'idle', floor(extract(epoch from
      now() - greatest(s.last_activity_at, s.commanded_at)))::bigint), v_request
    from lull.sessions s where s.ctid = any (p_ctids);
    return;
  end if;
  for v_event in
    insert into lull.session_events (session_id, kind, event, data, request_id)
    select s.id, s.kind, p_event, p_data || jsonb_build_object('status', s.status, 'idle', floor(extract(epoch from
      now() - greatest(s.last_activity_at, s.commanded_at)))::bigint), v_request
    from lull.sessions s where s.ctid = any (p_ctids)
    returning *
  loop
    perform lull.broadcast(v_event);
  end loop;
end
$$;

-- Append an event of a game's own: it is broadcast to game:{id} alone. The caller holds the session's lock.
create or replace function lull.append_game_event(p_session uuid, p_event text, p_data jsonb default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event lull.session_events;
begin
  insert into lull.session_events (session_id, kind, event, data, request_id)
  values (p_session, 'game', p_event, p_data, lull.request_id())
  returning * into v_event;
  perform lull.broadcast_to(v_event, '{game}');
end
$$;

-- Send an event to the private topic session:{id}, and for a game to game:{id} too.
create or replace function lull.broadcast(p_event lull.session_events)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform lull.broadcast_to(p_event, case p_event.kind when 'game' then '{session,game}'::text[] else '{session}' end);
end
$$;

-- Send an event to private topics, such as session:{id}. Does nothing without realtime.send. An error is a warning and
-- rolls nothing back, because the event log has the event.
create or replace function lull.broadcast_to(p_event lull.session_events, p_topics text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_topic text;
begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null then
    return;
  end if;
  foreach v_topic in array p_topics loop
    execute 'select realtime.send($1, $2, $3, true)'
    using jsonb_build_object('id', p_event.id, 'sessionId', p_event.session_id, 'kind', p_event.kind,
      'event', p_event.event, 'at', p_event.at, 'data', p_event.data - 'run'),
      p_event.event, concat_ws(':', v_topic, p_event.target, p_event.session_id);
  end loop;
exception when others then
  raise warning 'event % was not broadcast: %', p_event.id, sqlerrm;
end
$$;
