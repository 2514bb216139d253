-- Rooms, presence: the heartbeat, and telling who went away, came back or left.
--
-- A heartbeat rewrites one row, and only when the row's clock is over 1.5 intervals old or the row has a mark to
-- clear. It never waits for a session's lock: what must be told under it is told by the call that gets the lock (skip
-- locked), at the latest by the sweep.

-- Record that a tab of a participant is open. Writes where the row is active and has the tab, the session has not
-- ended, and the row's own clock is not past the timeout (else the others' clocks decide), and where the last write
-- is over 1.5 intervals ago or the row was told as away. Without p_participant the row of p_caller's user is meant.
--   p_interval  seconds between heartbeats;  p_grace  seconds after which the leave of the last tab is told
-- Locks the row; never the session. Raises 409 or 410, and 404 for a caller without a token. Returns {"status",
-- "expires_at", "warn_at"}: the session lives at least until then.
create or replace function public.lull_heartbeat(
  p_session uuid, p_participant uuid, p_tab text, p_interval double precision default 30,
  p_grace double precision default 10, p_caller jsonb default null)
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
  v_beat record;
begin
  if p_participant is null then
    p_participant := (lull.participant_of_user(p_session, p_caller)).id;
  end if;
  update lull.session_participants p
  set last_seen_at = greatest(p.last_seen_at, now())
  from lull.sessions s
  left join lull.timeouts t on t.kind = s.kind
  where p.id = p_participant and p.session_id = p_session and p.is_active and p_tab = any (p.tabs)
    and s.id = p_session and s.status <> 'ended' and s.companion_of is null
    and (p.last_seen_at < now() - make_interval(secs => 1.5 * p_interval) or p.away_since is not null)
    and (s.status = 'active' and p.last_seen_at < now() - t.age) is not true
  returning jsonb_build_object('status', s.status,
    'expires_at', case s.status when 'active' then now() + t.age end,
    'warn_at', case s.status when 'active' then now() + t.age - t.warn_before end) as answer,
    p.away_since is not null or exists (
      select 1 from lull.session_participants o
      where o.session_id = p_session and o.id <> p_participant and o.is_active
        and (o.leaving_at < now() - make_interval(secs => p_grace)
          or o.away_since is null and o.leaving_at is null
            and o.last_seen_at < now() - make_interval(secs => 4.5 * p_interval))) as is_due
  into v_beat;
  if not found then
    return lull.answer_beat(p_session, p_participant, p_tab, p_interval, p_grace, p_caller);
  elsif v_beat.is_due then
    perform lull.tell_presence(p_session, p_participant, p_interval, p_grace);
  end if;
  return v_beat.answer;
end
$$;

-- The active row of a user in a session; null when there is none.
create or replace function lull.participant_of_user(p_session uuid, p_caller jsonb)
returns lull.session_participants
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select p from lull.session_participants p
  where p.session_id = p_session and p.user_id = (p_caller ->> 'user_id')::uuid
  order by p.is_active desc, p.joined_at desc
  limit 1;
$$;

-- What a heartbeat answers that wrote nothing: that nothing had to be written, or why it may not be. Where the row's
-- own clock is past the timeout, and in a team's table, the session is judged by all its clocks, and one that others
-- keep is written to. Raises 404, 409 or 410.
create or replace function lull.answer_beat(
  p_session uuid, p_participant uuid, p_tab text, p_interval double precision, p_grace double precision, p_caller jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_caller constant jsonb := case when p_participant is null then coalesce(p_caller, '{}')
    else coalesce(p_caller, '{}') || jsonb_build_object('participant', p_participant) end;
  v_room lull.sessions;
  v_me lull.session_participants;
  v_answer jsonb;
begin
  -- Most beats that wrote nothing had nothing to write.
  select jsonb_build_object('status', s.status, 'expires_at', x.at, 'warn_at', x.at - t.warn_before) into v_answer
  from lull.session_participants p
  join lull.sessions s on s.id = p.session_id
  left join lull.timeouts t on t.kind = s.kind
  cross join lateral (select case s.status when 'active' then
    greatest(s.last_activity_at, s.commanded_at, p.last_seen_at) + t.age end) x (at)
  where p.id = p_participant and p.session_id = p_session and p.is_active and p_tab = any (p.tabs)
    and s.status in ('draft', 'active', 'paused') and s.companion_of is null and p.away_since is null
    and p.last_seen_at >= now() - make_interval(secs => 1.5 * p_interval) and (x.at < now()) is not true;
  if found then
    return v_answer;
  end if;
  v_room := lull.find_room(p_session, v_caller, false);
  select * into v_me from lull.session_participants where id = p_participant and session_id = p_session;
  if v_room.id is null or p_participant is null then
    perform lull.no_such_room(p_session, v_caller);
  end if;
  perform lull.require_present(v_me, p_tab);
  perform lull.require_open_room(v_room, 'kept alive');
  if v_me.away_since is null and v_me.last_seen_at >= now() - make_interval(secs => 1.5 * p_interval) then
    return lull.expiry_json(v_room.kind, v_room.status,
      greatest(v_room.last_activity_at, v_room.commanded_at, v_me.last_seen_at));
  end if;
  update lull.session_participants p
  set last_seen_at = greatest(p.last_seen_at, now())
  where p.id = p_participant and p.is_active and p_tab = any (p.tabs);
  if not found then  -- it left, or went with its session, while this call waited for its row
    return lull.answer_beat(p_session, p_participant, p_tab, p_interval, p_grace, p_caller);
  end if;
  perform lull.write_person(v_room.companion_of, v_me, null) where v_room.row_seen_at is not null;
  perform lull.tell_presence(p_session, p_participant, p_interval, p_grace);
  return lull.expiry_json(v_room.kind, v_room.status, now());
end
$$;

-- Refuse with 409 unless a participant is here, with this tab where one is named.
create or replace function lull.require_present(p_me lull.session_participants, p_tab text default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_me.removed_at is not null then
    perform lull.refuse(409, 'participant-removed', 'You were removed from this session. Nothing was changed.');
  elsif not coalesce(p_me.is_active and (p_tab is null or p_tab = any (p_me.tabs)), false) then
    perform lull.refuse(409, 'participant-left',
      'This tab has left the session, or its seat was given away. Nothing was changed; join again.');
  end if;
end
$$;

-- Tell what is due in one session, unless others have its lock: then a later heartbeat tells, or the sweep. p_back:
-- whose mark is cleared. Returns how many events were told. Waits for nothing, so that a call that holds a
-- participant's row may make it.
create or replace function lull.tell_presence(
  p_session uuid, p_back uuid, p_interval double precision, p_grace double precision)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_room lull.sessions;
begin
  select * into v_room from lull.sessions where id = p_session for no key update skip locked;
  if not found or v_room.companion_of is null and v_room.status = 'ended' then
    return 0;
  end if;
  return lull.tell_due(v_room, p_back, p_interval, p_grace);
end
$$;

-- Tell who is back (p_back), who went away, and whose last tab left longer ago than the grace: mark, event, broadcast,
-- each once. The caller holds the room's lock; rows that others hold are left for later. Returns how many.
create or replace function lull.tell_due(
  p_room lull.sessions, p_back uuid, p_interval double precision, p_grace double precision)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_one lull.session_participants;
  v_told integer := 0;
begin
  for v_one in
    select * from lull.session_participants p
    where p.session_id = p_room.id and p.is_active and (
      p.id = p_back and p.away_since is not null
      or p.leaving_at < now() - make_interval(secs => p_grace)
      or p.away_since is null and p.leaving_at is null and lull.is_silent(p, p_interval))
    order by coalesce(p.leaving_at, p.last_seen_at), p.id
    for no key update skip locked
  loop
    v_told := v_told + 1;
    if v_one.leaving_at is not null then
      perform lull.close_participant(p_room, v_one, 'left');
    elsif v_one.id = p_back then
      update lull.session_participants set away_since = null where id = v_one.id;
      perform lull.tell_room(p_room, 'participant.back', v_one);
    else
      update lull.session_participants set away_since = now() where id = v_one.id;
      perform lull.tell_room(p_room, 'participant.away', v_one);
    end if;
  end loop;
  return v_told;
end
$$;

-- Leave a session: with p_tab that page of the person; without, the person, told at once. The leave of the last tab is
-- told after p_grace seconds, unless a tab joins meanwhile. Moves the session's clock. Locks session and row. A
-- person who left, or was removed, has nothing to change. Raises 404, and 410 for a session that has expired. Returns
-- {"left"}: one of tab, person, nothing.
create or replace function public.lull_leave_session(
  p_session uuid, p_caller jsonb, p_tab text default null, p_interval double precision default 30,
  p_grace double precision default 10)
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
  v_me lull.session_participants := lull.find_participant(p_session, p_caller);
  v_tabs constant text[] := array_remove(v_me.tabs, p_tab);
begin
  if v_room.id is null then
    perform lull.no_such_room(p_session, p_caller);
  elsif v_me.id is null and p_caller ->> 'participant' is null then
    perform lull.no_such_session(p_session, p_caller);
  elsif v_room.status <> 'ended' then
    perform lull.require_open_room(v_room, 'left');
  end if;
  if not coalesce(v_me.is_active, false) or p_tab is not null and p_tab <> all (v_me.tabs) then
    return '{"left": "nothing"}';
  elsif p_tab is null or v_tabs = '{}' and p_grace <= 0 then
    perform lull.close_participant(v_room, v_me, 'left');
  else
    update lull.session_participants
    set tabs = v_tabs, leaving_at = case when v_tabs = '{}' then now() end
    where id = v_me.id;
  end if;
  if v_room.status <> 'ended' then
    perform lull.move_room_clock(v_room);
    perform lull.tell_due(v_room, null, p_interval, p_grace);
  end if;
  return jsonb_build_object('left', case when p_tab is null then 'person' else 'tab' end);
end
$$;

-- Remove a participant for good: owner and service. The person can join again neither by token nor by user. Locks
-- session and row. A second call changes nothing. Raises 404 or 410.
create or replace function public.lull_remove_participant(p_session uuid, p_participant uuid, p_caller jsonb)
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
  v_room lull.sessions := lull.find_own_room(p_session, p_caller, true);
  v_one lull.session_participants;
begin
  select * into v_one from lull.session_participants
  where id = p_participant and session_id = p_session for no key update;
  if not found then
    perform lull.refuse(404, 'not-found', 'There is no such participant in this session.');
  elsif v_one.removed_at is not null then
    return '{"removed": false}';
  end if;
  update lull.session_participants
  set is_active = false, tabs = '{}', leaving_at = null, away_since = null, removed_at = now(),
    left_at = case when is_active then now() else left_at end
  where id = p_participant;
  perform lull.write_person(v_room.companion_of, v_one, false) where v_room.row_seen_at is not null;
  perform lull.tell_room(v_room, 'participant.removed', v_one);
  return '{"removed": true}';
end
$$;
