-- Games: which instance owns a game. The fence grows with each change of the owner, and commands carry it: a former
-- owner's command is refused, however late it comes.
--
-- Lock order: the session, then instances. The recovery takes instances first; it waits for no lock.

-- Make an instance the owner of a game that is not ended.
--   p_force     take it from another instance whose lease runs: that one is told by its next renewal
--   p_restarted the game's process failed and starts again: more than p_restart_limit such claims within
--               p_restart_seconds end the game, with the reason restart_limit
-- A claim is no activity. Raises 404, 410, 409 (instance-closed, wrong-status, already-owned). Locks the session, then
-- both instances. Returns {"session", "fence"}; a session that was ended by this call is answered as it is.
create or replace function public.lull_claim_game(
  p_session uuid, p_incarnation bigint, p_force boolean, p_restarted boolean, p_restart_limit integer,
  p_restart_seconds double precision)
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
  v_game lull.sessions := lull.lock_game(p_session);
  v_times timestamptz[] := v_game.restarted_at;
begin
  perform 1 from lull.instances where incarnation in (p_incarnation, v_game.incarnation) order by incarnation for share;
  if not lull.is_leased(p_incarnation) then
    perform lull.instance_closed();
  elsif v_game.status = 'ended' then
    perform lull.wrong_status(v_game, 'claimed');
  elsif v_game.incarnation <> p_incarnation and lull.is_leased(v_game.incarnation) then
    if not p_force then
      perform lull.already_owned(v_game);
    end if;
    insert into lull.displacements (incarnation, session_id, fence)
    values (v_game.incarnation, p_session, v_game.fence + 1);
  end if;
  if p_restarted then
    v_times := array(
      select t from unnest(v_times) t where t > clock_timestamp() - make_interval(secs => p_restart_seconds)
      order by t) || clock_timestamp();
    if cardinality(v_times) > p_restart_limit then
      return lull.end_restarted(p_session, v_times);
    end if;
  end if;
  update lull.sessions s
  set incarnation = p_incarnation, fence = fence + 1, restarted_at = v_times,
    instance_id = (select i.id from lull.instances i where i.incarnation = p_incarnation)
  where s.id = p_session
  returning * into v_game;
  return jsonb_build_object('session', lull.game_json(v_game), 'fence', v_game.fence);
end
$$;

-- Give a game up: it has no owner, and takes commands without a fence. Raises 404, 410, and 409 when the caller is not
-- its owner any more. No activity. Locks the session. Returns {"fence"}.
create or replace function public.lull_release_session(p_session uuid, p_incarnation bigint, p_fence bigint)
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
  v_game lull.sessions := lull.lock_game(p_session);
begin
  if v_game.incarnation is distinct from p_incarnation or v_game.fence <> p_fence then
    perform lull.owner_displaced(v_game);
  end if;
  update lull.sessions
  set incarnation = null, instance_id = null, fence = fence + 1
  where id = p_session
  returning * into v_game;
  return jsonb_build_object('fence', v_game.fence);
end
$$;

-- Lock a game. Raises 404 or 410 when there is none; a session of another kind, or in a team's table, is none.
create or replace function lull.lock_game(p_session uuid)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_game lull.sessions := lull.lock_session(p_session);
begin
  if v_game.id is null or v_game.kind <> 'game' or v_game.companion_of is not null then
    perform lull.no_such_session(p_session, '{"service": true}');
  end if;
  return v_game;
end
$$;

-- Refuse to claim a game whose owner's lease runs: 409, with the owner. Never returns.
create or replace function lull.already_owned(p_game lull.sessions)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner lull.instances;
begin
  select * into v_owner from lull.instances where incarnation = p_game.incarnation;
  perform lull.refuse(409, 'already-owned', format(
    'The instance %s owns the game, and its lease runs. Nothing was changed; wait for its end, or claim with force.',
    v_owner.id),
    jsonb_build_object('instance', v_owner.id, 'leaseUntil', v_owner.lease_until, 'fence', p_game.fence)::text);
end
$$;

-- End a game that was restarted too often. The caller holds its lock. Returns what a claim does.
create or replace function lull.end_restarted(p_session uuid, p_times timestamptz[])
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_why constant jsonb := '{"reason": "restart_limit"}';
  v_game lull.sessions;
begin
  update lull.sessions
  set status = 'ended', ended_at = now(), end_reason = c_why ->> 'reason', version = version + 1,
    restarted_at = p_times, last_activity_at = greatest(last_activity_at, now())
  where id = p_session
  returning * into v_game;
  perform lull.append_event(p_session, 'game', 'ended', c_why);
  perform lull.append_game_event(p_session, 'terminated', c_why);
  return jsonb_build_object('session', lull.game_json(v_game), 'fence', v_game.fence);
end
$$;
