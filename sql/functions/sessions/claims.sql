-- Sessions, claims: a session without an account becomes its user's.

-- Make a signed-in user the owner of an anonymous session whose token they hold; the token is void afterwards. In a
-- team's table the row's owner is written too. p_limits is that of a creation: a draft or a game that would be one
-- too many for the user is refused (429), and stays as it is. Idempotent. Any other caller gets 404. Locks the
-- session, then the user's counter.
create or replace function public.lull_claim_session(
  p_session uuid, p_user uuid, p_token_hash text, p_limits jsonb default null, p_table text default null)
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
  v_caller jsonb := jsonb_build_object('user_id', p_user, 'token_hash', p_token_hash);
  v_place text := lull.own_place(p_session, v_caller, p_table);
  v_session lull.sessions;
begin
  if v_place <> 'lull.sessions' then
    return lull.claim_row_session(v_place, p_session, v_caller, p_user);
  end if;
  v_session := lull.lock_own_session(p_session, v_caller);
  if v_session.owner_id is distinct from p_user then
    perform lull.check_claim(v_session, p_user, p_limits);
    update lull.sessions
    set owner_id = p_user, owner_token_hash = null, client_hash = null, version = version + 1,
      last_activity_at = greatest(last_activity_at, now())
    where id = p_session
    returning * into v_session;
    perform lull.append_event(p_session, v_session.kind, 'claimed');
  end if;
  return jsonb_build_object('session', lull.session_json(v_session));
end
$$;

-- The same for a caller of release 0.1.0, which knows of no limits on a claim and of no tables.
create or replace function public.lull_claim_ownership(p_session uuid, p_user uuid, p_token_hash text)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '8s'
as $$
  select lull.require_server();
  select public.lull_claim_session(p_session, p_user, p_token_hash);
$$;

-- Claim a session in a team's table, unless it is the user's already.
create or replace function lull.claim_row_session(p_table text, p_id uuid, p_caller jsonb, p_user uuid)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_locked record;
begin
  select * into v_locked from lull.lock_row_session(p_table, p_id, p_caller, 'for no key update of t', 'may');
  if coalesce(v_locked.o_row ->> 'owner', (v_locked.o_companion).owner_id::text) = p_user::text then
    return jsonb_build_object('session',
      lull.row_session_json(v_locked.o_target, p_id, v_locked.o_row, v_locked.o_companion));
  end if;
  return lull.move_row_session(p_table, p_id, p_caller, null, '{draft,active,paused,ended,other}', null, 'claimed',
    p_owner => p_user);
end
$$;
