-- Rooms, reading: who is here, and when the session expires; and `stay`, activity without a participant.

-- Who is in a session, by the time of joining, at most 500: for its owner, the service, and those who are here. Locks
-- nothing. User ids are for the owner and the service only. Raises 404, 409 for one who left, 410. Returns
-- {"participants"}.
create or replace function public.lull_list_participants(
  p_session uuid, p_caller jsonb, p_interval double precision default 30, p_grace double precision default 10)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_room lull.sessions := lull.find_room(p_session, p_caller, false);
  v_is_owner constant boolean := coalesce(lull.is_owner(v_room.owner_id, v_room.owner_token_hash, p_caller), false);
  v_me lull.session_participants := lull.read_participant(p_session, p_caller);
begin
  if v_room.id is null then
    perform lull.no_such_room(p_session, p_caller);
  elsif not v_is_owner then
    if v_me.id is null and p_caller ->> 'participant' is null then
      perform lull.no_such_session(p_session, p_caller);
    end if;
    perform lull.require_present(v_me);
  end if;
  if lull.is_expired(v_room) then
    perform lull.refuse(410, 'session-expired', lull.expired_sentence(p_session, v_room.kind, 'session'));
  end if;
  return jsonb_build_object('participants', (
    select coalesce(jsonb_agg(lull.participant_json(p, p_interval, v_is_owner)
      || jsonb_build_object('you', p.id is not distinct from v_me.id) order by p.joined_at, p.id), '[]')
    from (
      select * from lull.people_in(v_room) p
      where (p.leaving_at < now() - make_interval(secs => p_grace)) is not true
      order by p.joined_at, p.id
      limit 500
    ) p));
end
$$;

-- The row of the caller's person in a session, as lull.find_participant finds it by user or token, without a lock.
create or replace function lull.read_participant(p_session uuid, p_caller jsonb)
returns lull.session_participants
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select p from lull.session_participants p
  where p.session_id = p_session
    and (p.user_id = (p_caller ->> 'user_id')::uuid
      or p.id = (p_caller ->> 'participant')::uuid and (p.user_id is null or p_caller ->> 'user_id' is null))
  order by p.removed_at is null, (p.user_id = (p_caller ->> 'user_id')::uuid) desc nulls last, p.is_active desc,
    p.joined_at desc
  limit 1;
$$;

-- Whether and when a session expires: for its owner, the service, and all who are or were in it. One that is gone has
-- expired ("cleaned") for those who can prove that they knew it. Locks nothing. Raises 404. Returns {"expired",
-- "expires_at", "warn_at", "seconds_left", "reason"}: draft, active, idle, paused, ended, never or cleaned.
create or replace function public.lull_session_expiry(p_session uuid, p_caller jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_room lull.sessions := lull.find_room(p_session, p_caller, false);
  v_expiry jsonb;
  v_expired boolean;
begin
  if v_room.id is null then
    if p_caller ->> 'participant' is null and not exists (
      select 1 from lull.targets g
      where (g.name = 'lull.sessions' or g.kind is not null)
        and (lull.archived_for(g.name, p_session::text, p_caller) or lull.purged_for(g.name, p_session::text, p_caller))
    ) then
      perform lull.no_such_session(p_session, p_caller);
    end if;
    return '{"expired": true, "expires_at": null, "warn_at": null, "seconds_left": null, "reason": "cleaned"}';
  elsif p_caller ->> 'participant' is null
    and not lull.is_owner(v_room.owner_id, v_room.owner_token_hash, p_caller)
    and (lull.read_participant(p_session, p_caller)).id is null
  then
    perform lull.no_such_session(p_session, p_caller);
  end if;
  v_expired := lull.is_expired(v_room);
  v_expiry := lull.expiry_json(v_room.kind, v_room.status, lull.active_at(v_room));
  return v_expiry - 'status' || jsonb_build_object('expired', v_expired,
    'seconds_left', greatest(floor(extract(epoch from (v_expiry ->> 'expires_at')::timestamptz - now())), 0),
    'reason', case
      when v_expired then 'idle'
      when v_room.status <> 'active' then case when v_room.status in ('draft', 'paused', 'ended')
        then v_room.status else 'never' end
      when v_expiry ->> 'expires_at' is null then 'never'
      else 'active' end);
end
$$;

-- Stay: activity without a participant, by the owner, the service or one who is here. Locks the session; writes when
-- its clock is over 1.5 intervals old. Raises 404, 409 or 410. Returns {"status", "expires_at", "warn_at"}.
create or replace function public.lull_touch_session(
  p_session uuid, p_caller jsonb, p_interval double precision default 30)
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
  v_me lull.session_participants;
begin
  if v_room.id is null then
    perform lull.no_such_room(p_session, p_caller);
  elsif not lull.is_owner(v_room.owner_id, v_room.owner_token_hash, p_caller) then
    v_me := lull.read_participant(p_session, p_caller);
    if v_me.id is null and p_caller ->> 'participant' is null then
      perform lull.no_such_session(p_session, p_caller);
    end if;
    perform lull.require_present(v_me);
  end if;
  perform lull.require_open_room(v_room, 'kept alive');
  if (v_room.last_activity_at >= now() - make_interval(secs => 1.5 * p_interval)) is not true then
    perform lull.move_room_clock(v_room);
    v_room.last_activity_at := now();
  end if;
  return lull.expiry_json(v_room.kind, v_room.status, lull.active_at(v_room));
end
$$;
