-- Rooms: a session with people in it, of any kind. What its operations share: find and lock it, who may act, its clock,
-- and what is told of a participant.
--
-- A *room* is a row of lull.sessions. For a session in a team's table it is the companion, with what the team's row
-- says instead (status, owner, clock). A caller is as in core/sessions.sql, and may have "participant": the id in a
-- participant's token that was checked for this session.
--
-- Lock order: team's row, session, invite, participants, counters. Only the holder of a session's lock waits for its
-- participants' rows; a heartbeat has its own row, and waits for nothing more.

-- A session as a room, locked unless p_locked is false; null when there is none for this caller. One of the API's own
-- comes first; "table" in p_caller names another place.
create or replace function lull.find_room(p_session uuid, p_caller jsonb, p_locked boolean)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_room lull.sessions;
begin
  if coalesce(p_caller ->> 'table', 'lull.sessions') = 'lull.sessions' then
    if p_locked then
      select * into v_room from lull.sessions where id = p_session and companion_of is null for no key update;
    else
      select * into v_room from lull.sessions where id = p_session and companion_of is null;
    end if;
  end if;
  if v_room.id is null and (
    exists (select 1 from lull.sessions where id = p_session)
    or exists (select 1 from lull.targets where kind is not null)
  ) then
    return lull.find_adopted_room(p_session, p_caller, p_locked);
  end if;
  return v_room;
end
$$;

-- A room of its owner's (or any, for the service); raises 404 or 410 when there is none.
create or replace function lull.find_own_room(p_session uuid, p_caller jsonb, p_locked boolean)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_room lull.sessions := lull.find_room(p_session, p_caller, p_locked);
begin
  if v_room.id is null or not lull.is_owner(v_room.owner_id, v_room.owner_token_hash, p_caller) then
    perform lull.no_such_room(p_session,
      case when v_room.id is null then p_caller else p_caller - 'participant' end);
  end if;
  return v_room;
end
$$;

-- The same for a session in a team's table: the row first, then its companion, which the row's owner makes by acting
-- (a participant has one). A companion whose row is not there yet is a room by itself.
create or replace function lull.find_adopted_room(p_session uuid, p_caller jsonb, p_locked boolean)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
  v_row jsonb;
  v_room lull.sessions;
  v_found boolean := false;
begin
  for v_target in
    select * from lull.targets
    where kind is not null
      and (p_caller ->> 'table' is null or name in (p_caller ->> 'table', 'public.' || (p_caller ->> 'table')))
    order by name
  loop
    v_row := lull.read_own_row(v_target, p_session, case when p_locked then 'for no key update of t' else '' end);
    continue when v_row is null;
    v_found := true;
    select * into v_room from lull.sessions where id = p_session;
    if p_locked then
      v_room := lull.companion_of_row(v_target, p_session, v_row,
        case when lull.is_row_owner(v_target, v_row, v_room, p_caller) or p_caller ->> 'user_id' is not null
            and lull.read_people(v_target, p_session, (p_caller ->> 'user_id')::uuid) <> '[]'
          then 'must' else 'never' end);
      if v_room.id is not null then
        perform lull.follow_people(v_target, p_session);
      end if;
    elsif not lull.is_companion(v_room, v_target, v_row) then
      v_room := null;
      if lull.is_row_owner(v_target, v_row, v_room, p_caller) then
        v_room.id := p_session;
      end if;
    end if;
    if v_room.id is not null then
      return lull.room_of_row(v_target, v_row, v_room);
    end if;
  end loop;
  if v_found then
    return null;
  elsif p_locked then
    select * into v_room from lull.sessions where id = p_session and companion_of is not null for no key update;
  else
    select * into v_room from lull.sessions where id = p_session and companion_of is not null;
  end if;
  v_room.row_seen_at := null;  -- also where the row has gone: the companion decides by itself
  return v_room;
end
$$;

-- A companion with what the team's row says: the row's status, owner and clock decide.
create or replace function lull.room_of_row(p_target lull.targets, p_row jsonb, p_room lull.sessions)
returns lull.sessions
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  p_room.companion_of := p_target.name;
  p_room.row_seen_at := coalesce(p_room.row_seen_at, '-infinity');
  p_room.kind := p_target.kind;
  p_room.status := p_row ->> 'status';
  p_room.last_activity_at := greatest((p_row ->> 'last_activity_at')::timestamptz, p_room.last_activity_at);
  if p_row ->> 'owner' is not null then
    p_room.owner_id := (p_row ->> 'owner')::uuid;
    p_room.owner_token_hash := null;
  end if;
  return p_room;
end
$$;

-- Record activity of a locked room: its clock moves forward, never back. In a team's table the row's own clock moves,
-- and a table that refuses is a 409 that names what refused.
create or replace function lull.move_room_clock(p_room lull.sessions)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
begin
  if p_room.row_seen_at is not null then
    select * into v_target from lull.targets where name = p_room.companion_of;
    perform lull.write_own_row(v_target, p_room.id, '{}', null);
  else
    update lull.sessions set last_activity_at = greatest(last_activity_at, now()) where id = p_room.id;
  end if;
end
$$;

-- Refuse because there is no such room for this caller: 410 for one who proved to have been let in (p_was_let_in: a
-- participant's token, a real invite), whatever became of it; else as for any session. Never returns.
create or replace function lull.no_such_room(p_session uuid, p_caller jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_caller ->> 'participant' is not null then
    perform lull.refuse(410, 'session-expired', lull.expired_sentence(p_session, null, 'session'));
  end if;
  perform lull.no_such_session(p_session, p_caller);
end
$$;

-- What is said of a session that has expired, with the hours of the setting. The kind of one that is gone is in the
-- event log. p_what: `session` or `invitation link`.
create or replace function lull.expired_sentence(p_session uuid, p_kind text, p_what text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('This %s has expired. Sessions become inactive after %s of no activity.', p_what,
    lull.hours_in_words(coalesce(lull.expire_after(coalesce(p_kind,
      (select e.kind from lull.session_events e where e.session_id = p_session order by e.id limit 1), 'room')),
      lull.expire_after('room'), interval '1 hour')));
$$;

-- Refuse to act in a room that has ended (409) or expired (410), whether or not the cleanup has run.
create or replace function lull.require_open_room(p_room lull.sessions, p_verb text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_room.status not in ('draft', 'active', 'paused') then
    perform lull.wrong_status(p_room, p_verb);
  elsif lull.is_expired(p_room) then
    perform lull.refuse(410, 'session-expired', lull.expired_sentence(p_room.id, p_room.kind, 'session'));
  end if;
end
$$;

-- Append an event of a participant, and broadcast it with the name: the log outlives the room, and holds ids only. The
-- caller holds the room's lock.
create or replace function lull.tell_room(
  p_room lull.sessions, p_event text, p_participant lull.session_participants, p_data jsonb default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event lull.session_events;
begin
  insert into lull.session_events (target, session_id, kind, event, data, request_id)
  values (case when p_room.row_seen_at is not null then p_room.companion_of end, p_room.id, p_room.kind, p_event,
    jsonb_build_object('participant', p_participant.id) || p_data, lull.request_id())
  returning * into v_event;
  v_event.data := v_event.data || jsonb_build_object('name', p_participant.name);
  perform lull.broadcast(v_event);
end
$$;
