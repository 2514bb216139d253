-- Rooms, participants: how one is found, shown, closed, and who is in a room.

-- The row of the caller's person in a session, locked; null when there is none. Proofs are the user, the id in a
-- participant's token, and the hashes of an anonymous id ("anonymous" in p_proof; "user_id" there is whom the service
-- acts for). A row that was removed comes first, so that no other proof leads around the removal; then the user's own,
-- then one that is active. A row of another user is not found, whatever token is shown with it.
create or replace function lull.find_participant(p_session uuid, p_caller jsonb, p_proof jsonb default '{}')
returns lull.session_participants
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_user uuid := coalesce((p_caller ->> 'user_id')::uuid, (p_proof ->> 'user_id')::uuid);
  v_anonymous text[] := array(select jsonb_array_elements_text(coalesce(nullif(p_proof -> 'anonymous', 'null'), '[]')));
  v_me lull.session_participants;
begin
  select * into v_me
  from lull.session_participants p
  where p.session_id = p_session
    and (p.user_id = v_user
      or (p.id = (p_caller ->> 'participant')::uuid or p.anonymous_id = any (v_anonymous))
        and (p.user_id is null or v_user is null))
  order by p.removed_at is null, (p.user_id = v_user) desc nulls last, p.is_active desc,
    (p.id = (p_caller ->> 'participant')::uuid) desc nulls last, p.joined_at desc
  limit 1
  for no key update;
  return v_me;
end
$$;

-- Take a participant out of a locked room: the row stays, as of a person who was there. p_reason: `left`, `seat` (the
-- seat was given to another person), `merged` (the person has another row).
create or replace function lull.close_participant(
  p_room lull.sessions, p_participant lull.session_participants, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update lull.session_participants
  set is_active = false, tabs = '{}', left_at = coalesce(leaving_at, now()), leaving_at = null, away_since = null
  where id = p_participant.id;
  perform lull.write_person(p_room.companion_of, p_participant, false) where p_room.row_seen_at is not null;
  perform lull.tell_room(p_room, 'participant.left', p_participant, jsonb_build_object('reason', p_reason));
end
$$;

-- A participant as others see it; the user only where p_with_user.
create or replace function lull.participant_json(
  p_participant lull.session_participants, p_interval double precision, p_with_user boolean)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', p_participant.id, 'name', p_participant.name,
    'state', case when p_participant.away_since is not null or lull.is_silent(p_participant, p_interval) then 'away'
      else 'here' end,
    'joined_at', p_participant.joined_at)
    || case when p_with_user then jsonb_build_object('user_id', p_participant.user_id) else '{}' end;
$$;

-- Whether three intervals without a beat are certain: a row may lag by 1.5 intervals, so its own clock must be 4.5 old.
create or replace function lull.is_silent(p_participant lull.session_participants, p_interval double precision)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select p_participant.last_seen_at < now() - make_interval(secs => 4.5 * p_interval);
$$;

-- The active participants of a room, with their names: those of the team's table where they are in one. A person of a
-- team's own SQL, who never called the API, is among them.
create or replace function lull.people_in(p_room lull.sessions)
returns setof lull.session_participants
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
  v_one lull.session_participants;
  v_people jsonb := '[]';
begin
  if p_room.row_seen_at is not null then
    select * into v_target from lull.targets where name = p_room.companion_of;
    v_people := lull.read_people(v_target, p_room.id);
  end if;
  for v_one in select * from lull.session_participants p where p.session_id = p_room.id and p.is_active loop
    v_one.name := coalesce(v_one.name, (
      select t.name from jsonb_to_recordset(v_people) t (id uuid, name text) where t.id = v_one.id));
    return next v_one;
  end loop;
  return query
  select t.id, p_room.id, t."user", null::text, t.name, true, t.seen, coalesce(t.seen, '-infinity'), '{}'::text[],
    null::timestamptz, null::timestamptz, null::timestamptz, null::timestamptz
  from jsonb_to_recordset(v_people) t (id uuid, "user" uuid, name text, active boolean, seen timestamptz)
  where t.active and not exists (select 1 from lull.session_participants p where p.id = t.id);
end
$$;
