-- Rooms, seats: a participant limit that is exact under concurrency.

-- Refuse with 409 unless a locked room has a seat for one more. A full room first tells who left, and then gives away
-- the seat of the participant that was seen least recently, if that is longer ago than "seat_hold": a ghost holds no
-- seat.
create or replace function lull.take_seat(p_room lull.sessions, p_limits jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_most constant integer := (p_limits ->> 'max_participants')::integer;
  v_ghost lull.session_participants;
begin
  if v_most is null or lull.seats_taken(p_room.id) < v_most then
    return;
  end if;
  perform lull.tell_due(p_room, null, (p_limits ->> 'interval')::double precision,
    (p_limits ->> 'grace')::double precision);
  if lull.seats_taken(p_room.id) < v_most then
    return;
  end if;
  select * into v_ghost
  from lull.session_participants p
  where p.session_id = p_room.id and p.is_active
  order by p.last_seen_at, p.id
  limit 1
  for no key update;
  if lull.seats_taken(p_room.id) > v_most
    or v_ghost.last_seen_at >= now() - make_interval(secs => (p_limits ->> 'seat_hold')::double precision)
  then
    perform lull.refuse(409, 'session-full',
      format('%s participants are in this session, which is the limit. Nothing was changed; try again later.', v_most),
      jsonb_build_object('limit', v_most)::text);
  end if;
  perform lull.close_participant(p_room, v_ghost, 'seat');
end
$$;

-- How many participants a room has.
create or replace function lull.seats_taken(p_session uuid)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select count(*) from lull.session_participants where session_id = p_session and is_active;
$$;
