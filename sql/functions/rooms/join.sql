-- Rooms, joining: one person is one row, whatever tabs and devices the person has; seats are counted under the
-- session's lock, and an invite's uses under the invite's.

-- Join a session, or come back to it.
--   p_join    "access_method" (direct | invite), "invite" (an id whose token was checked), "name", "tab", "anonymous"
--             (hashes of the caller's anonymous id, the current one first), "user_id" (whom the service acts for)
--   p_limits  "max_participants", "seat_hold" and "grace" (seconds), "interval" (of heartbeats, in seconds),
--             "client_hash", "anonymous_joins_per_hour", "invite_failures_per_hour"; a limit that is null does not hold
-- A person with a row takes it, and needs no live invite. The first join activates a draft of a room. Moves the
-- session's clock. Locks session, invite, participants, counters. A refused invite is an answer and no error: an
-- exception would undo its counter. Returns {"participant", "status", "expires_at", "warn_at"} or {"refused"}.
create or replace function public.lull_join_session(p_session uuid, p_caller jsonb, p_join jsonb, p_limits jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_room lull.sessions := lull.find_room(p_session, p_caller, true);
  v_me lull.session_participants := lull.find_participant(p_session, p_caller, p_join);
  v_by_invite constant boolean := p_join ->> 'access_method' = 'invite' and v_me.id is null
    and not coalesce(lull.is_owner(v_room.owner_id, v_room.owner_token_hash, p_caller), false);
  v_refused jsonb;
begin
  if v_me.removed_at is not null then
    perform lull.refuse(409, 'participant-removed', 'You were removed from this session, and cannot join it again.');
  elsif v_by_invite then
    v_refused := lull.judge_invite(p_session, v_room, (p_join ->> 'invite')::uuid);
  elsif v_room.id is null then
    perform lull.no_such_room(p_session, p_caller);
  elsif v_me.id is null and not lull.is_owner(v_room.owner_id, v_room.owner_token_hash, p_caller) then
    perform lull.no_such_session(p_session, p_caller);
  end if;
  if v_refused is null then
    perform lull.require_open_room(v_room, 'joined');
    if v_me.id is null then
      perform lull.require_identity(p_caller, p_join);
    end if;
    if not coalesce(v_me.is_active, false) then
      perform lull.take_seat(v_room, p_limits);
    end if;
  end if;
  perform lull.count_join(v_me, v_by_invite, v_refused is not null, p_caller, p_join, p_limits);
  if v_refused is not null then
    return jsonb_build_object('refused', v_refused);
  elsif v_by_invite then
    update lull.invites set uses = uses + 1 where id = (p_join ->> 'invite')::uuid;
  end if;
  v_room := lull.open_room(v_room);
  v_me := lull.enter_room(v_room, v_me, p_caller, p_join);
  return lull.expiry_json(v_room.kind, v_room.status, now()) || jsonb_build_object('participant',
    lull.participant_json(v_me, (p_limits ->> 'interval')::double precision, false) || '{"you": true}');
end
$$;

-- Refuse with 422 a new person who has neither an account nor an anonymous id: each join would be another participant.
create or replace function lull.require_identity(p_caller jsonb, p_join jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(p_caller ->> 'user_id', p_join ->> 'user_id', p_join -> 'anonymous' ->> 0) is null then
    perform lull.refuse(422, 'invalid-request',
      'anonymousId: is needed without an account, so that a second tab is the same participant',
      '{"errors": [{"field": "anonymousId", "message": "is needed without an account"}]}');
  end if;
end
$$;

-- Count a join where it is limited: new persons without an account, and tries with an invite that was refused. Raises
-- 429, and counts nothing, when the limit was reached before; a caller without a client address is not limited. Locks
-- the counters.
create or replace function lull.count_join(
  p_me lull.session_participants, p_by_invite boolean, p_refused boolean, p_caller jsonb, p_join jsonb, p_limits jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_client constant text := p_limits ->> 'client_hash';
  v_failures constant text := case when p_by_invite then 'invites:' || v_client end;
  v_joins constant text := case when p_me.id is null and not p_refused
    and coalesce(p_caller ->> 'user_id', p_join ->> 'user_id') is null then 'joins:' || v_client end;
begin
  if coalesce(v_failures, v_joins) is null then
    return;
  end if;
  perform lull.lock_counters(array_remove(array[v_failures, v_joins], null));
  perform lull.refuse_over_limit(
    lull.counter_limit(v_failures, 'invite-failures-per-hour-by-client', p_limits -> 'invite_failures_per_hour')
    || lull.counter_limit(v_joins, 'anonymous-joins-per-hour-by-client', p_limits -> 'anonymous_joins_per_hour'));
  update lull.rate_counters set count = count + 1
  where key = case when p_refused then v_failures else v_joins end;
end
$$;

-- The state of an hourly limit by its counter, as lull.limit_json; empty without a key or a limit. The caller holds the
-- counter's lock.
create or replace function lull.counter_limit(p_key text, p_name text, p_limit jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select lull.limit_json(p_name, (nullif(p_limit, 'null') #>> '{}')::integer, c.count, 3600, r.seconds, r.seconds)
    from lull.rate_counters c
    cross join lateral (
      select least(ceil(extract(epoch from c.window_start + interval '1 hour' - now())), 3600)::integer as seconds) r
    where c.key = p_key), '[]');
$$;

-- Count a try with a token that is no invite's. Raises 429 when the limit was reached before. Locks the counter.
-- Returns {"counted"}.
create or replace function public.lull_count_invite_failure(p_client_hash text, p_limit integer)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
begin
  perform lull.count_join(null, true, true, '{}', '{}',
    jsonb_build_object('client_hash', p_client_hash, 'invite_failures_per_hour', p_limit));
  return jsonb_build_object('counted', p_client_hash is not null);
end
$$;

-- Move the clock of a locked room, and activate a draft of a room: a chat's or a game's begins with its first message
-- or command. Returns the room as it is then.
create or replace function lull.open_room(p_room lull.sessions)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
begin
  if p_room.kind <> 'room' or p_room.status <> 'draft' then
    perform lull.move_room_clock(p_room);
    return p_room;
  elsif p_room.row_seen_at is null then
    perform lull.activate_locked(p_room, null);
  else
    select * into v_target from lull.targets where name = p_room.companion_of;
    perform lull.write_own_row(v_target, p_room.id, jsonb_build_object('status', p_room.status), 'active');
    update lull.sessions
    set status = 'active', version = version + 1, first_message_at = coalesce(first_message_at, now())
    where id = p_room.id;
    perform lull.append_row_event(v_target.name, p_room.id, p_room.kind, 'activated');
  end if;
  p_room.status := 'active';
  return p_room;
end
$$;

-- Write the person's row in a locked room: a new one, or the one that is there, back if it had left or was away. A
-- ninth tab replaces the oldest. Returns the row.
create or replace function lull.enter_room(
  p_room lull.sessions, p_me lull.session_participants, p_caller jsonb, p_join jsonb)
returns lull.session_participants
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_most_tabs constant integer := 8;
  v_before constant lull.session_participants := p_me;
  v_user constant uuid := coalesce(p_caller ->> 'user_id', p_join ->> 'user_id')::uuid;
  v_tabs text[] := array_remove(coalesce(p_me.tabs, '{}'), p_join ->> 'tab') || (p_join ->> 'tab');
  v_anonymous text;
begin
  perform lull.merge_anonymous(p_room, p_me, p_join);
  -- one browser, two accounts: the id stays with the row that had it first
  v_anonymous := (
    select a.id from (values (p_join -> 'anonymous' ->> 0)) a (id)
    where not exists (
      select 1 from lull.session_participants o
      where o.session_id = p_room.id and o.anonymous_id = a.id and o.is_active and o.id is distinct from p_me.id));
  if p_me.id is null then
    insert into lull.session_participants (session_id, user_id, anonymous_id, name, tabs)
    values (p_room.id, v_user, v_anonymous, p_join ->> 'name', v_tabs)
    returning * into p_me;
  else
    update lull.session_participants p
    set user_id = coalesce(p.user_id, v_user), anonymous_id = coalesce(v_anonymous, p.anonymous_id),
      name = coalesce(p_join ->> 'name', p.name), tabs = v_tabs[greatest(cardinality(v_tabs) - c_most_tabs, 0) + 1:],
      is_active = true, joined_at = case when p.is_active then p.joined_at else now() end,
      last_seen_at = greatest(p.last_seen_at, now()), leaving_at = null, away_since = null, left_at = null
    where p.id = p_me.id
    returning * into p_me;
  end if;
  if p_room.row_seen_at is not null then
    p_me.name := lull.enter_team_table(p_room, p_me, p_join ->> 'name');
  end if;
  if not coalesce(v_before.is_active, false) then
    perform lull.tell_room(p_room, 'participant.joined', p_me);
  elsif v_before.away_since is not null then
    perform lull.tell_room(p_room, 'participant.back', p_me);
  end if;
  return p_me;
end
$$;

-- Write a person who joined into the team's table of participants, if the adoption names one. The name is in that table
-- then, and only there. Returns the name.
create or replace function lull.enter_team_table(
  p_room lull.sessions, p_me lull.session_participants, p_name text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
begin
  select * into v_target from lull.targets where name = p_room.companion_of;
  if v_target.participants ->> 'name' is null or lull.person_key(v_target) is null then
    perform lull.write_person(v_target.name, p_me, true);
    return p_me.name;
  end if;
  update lull.session_participants set name = null where id = p_me.id and name is not null;
  perform lull.write_person(v_target.name, p_me, true, p_name);
  return (
    select t.name from jsonb_to_recordset(lull.read_people(v_target, p_room.id)) t (id uuid, name text)
    where t.id = p_me.id);
end
$$;

-- A person who joined without an account before, and has another row now: the row of the anonymous id is closed.
create or replace function lull.merge_anonymous(p_room lull.sessions, p_me lull.session_participants, p_join jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_other lull.session_participants;
begin
  for v_other in
    select * from lull.session_participants p
    where p.session_id = p_room.id and p.is_active and p.id is distinct from p_me.id and p.user_id is null
      and p.anonymous_id in (
        select a from jsonb_array_elements_text(coalesce(nullif(p_join -> 'anonymous', 'null'), '[]')) a)
    for no key update
  loop
    perform lull.close_participant(p_room, v_other, 'merged');
  end loop;
end
$$;
