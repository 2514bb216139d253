-- Rooms, invites: a row behind an unguessable link. The token in the link is the invite's id and a code that the API
-- derives; the database holds no secret.

-- Create an invite: owner and service. p_idempotency as in lull_create_session: a retried create repeats the answer.
-- p_most: how many open invites a session may have; null: no limit. Locks key and session. Raises 404, 409 or 410, and
-- 429 at the limit. Returns {"invite", "replayed"}.
create or replace function public.lull_create_invite(
  p_session uuid, p_caller jsonb, p_invite uuid, p_seconds double precision, p_max_uses integer default null,
  p_most integer default null, p_idempotency jsonb default null)
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
  v_answer jsonb := lull.begin_once(p_idempotency, p_session);
  v_room lull.sessions;
  v_invite lull.invites;
begin
  if v_answer is not null then
    perform lull.find_own_room(p_session, p_caller, false);
    return v_answer || '{"replayed": true}';
  end if;
  v_room := lull.find_own_room(p_session, p_caller, true);
  perform lull.require_open_room(v_room, 'opened to invited people');
  if p_most <= (select count(*) from lull.invites i where i.session_id = p_session and lull.is_open_invite(i)) then
    perform lull.refuse(429, 'rate-limited',
      format('%s invites of this session are open, which is the limit. Nothing was done; revoke one.', p_most),
      '{"limit": "open-invites"}');
  end if;
  insert into lull.invites (id, session_id, max_uses, expires_at)
  values (p_invite, p_session, p_max_uses, now() + make_interval(secs => p_seconds))
  returning * into v_invite;
  v_answer := jsonb_build_object('invite', lull.invite_json(v_invite), 'replayed', false);
  perform lull.end_once(p_idempotency, v_answer);
  return v_answer;
end
$$;

-- Whether an invite can still be used.
create or replace function lull.is_open_invite(p_invite lull.invites)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select p_invite.revoked_at is null and p_invite.expires_at > now()
    and (p_invite.max_uses is null or p_invite.uses < p_invite.max_uses);
$$;

-- An invite as its session's owner sees it, without its token.
create or replace function lull.invite_json(p_invite lull.invites)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', p_invite.id, 'max_uses', p_invite.max_uses, 'uses', p_invite.uses,
    'created_at', p_invite.created_at, 'expires_at', p_invite.expires_at, 'revoked_at', p_invite.revoked_at,
    'open', lull.is_open_invite(p_invite));
$$;

-- The invites of a session, newest first, at most 500: owner and service. Locks nothing. Raises 404 or 410. Returns
-- {"invites"}.
create or replace function public.lull_list_invites(p_session uuid, p_caller jsonb)
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
  v_room lull.sessions := lull.find_own_room(p_session, p_caller, false);
begin
  return jsonb_build_object('invites', (
    select coalesce(jsonb_agg(lull.invite_json(i) order by i.created_at desc, i.id), '[]')
    from (select * from lull.invites where session_id = v_room.id order by created_at desc, id limit 500) i));
end
$$;

-- Revoke an invite: owner and service. Who joined by it stays. Locks the session (key share), then the invite: a join
-- that has the invite comes before, and after the answer none joins by it. A second call changes nothing. Raises 404.
create or replace function public.lull_revoke_invite(p_session uuid, p_invite uuid, p_caller jsonb)
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
  v_room lull.sessions := lull.find_own_room(p_session, p_caller, false);
begin
  perform 1 from lull.sessions where id = p_session for key share;
  update lull.invites set revoked_at = coalesce(revoked_at, now()) where id = p_invite and session_id = v_room.id;
  if not found then
    perform lull.refuse(404, 'not-found', 'There is no such invite of this session.');
  end if;
  return '{"revoked": true}';
end
$$;

-- Why an invite, whose token is a real one of this session, lets no one in: {"status", "type", "message",
-- "members"}; null when it does. Locks the invite, behind the session. In this order: unknown, session, revoked,
-- expired, used up. A session that is gone is one that expired: the token proves that there was one.
create or replace function lull.judge_invite(p_session uuid, p_room lull.sessions, p_invite uuid)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_invite lull.invites;
  v_refused record;
begin
  select * into v_invite from lull.invites where id = p_invite and session_id = p_session for no key update;
  select * into v_refused from (values
    (1, p_room.id is null, 410, 'session-expired', null),
    (2, v_invite.id is null, 404, 'invite-unknown', 'This session has no such invite. Nothing was changed.'),
    (3, p_room.status not in ('draft', 'active', 'paused'), 409, 'wrong-status',
      format('A session that is %s cannot be joined. Nothing was changed.', p_room.status)),
    (4, lull.is_expired(p_room), 410, 'session-expired', null),
    (5, v_invite.revoked_at is not null, 410, 'invite-revoked', 'This invitation was withdrawn. Ask for a new one.'),
    (6, v_invite.expires_at <= now(), 410, 'invite-expired', 'This invitation has expired. Ask for a new one.'),
    (7, v_invite.uses >= v_invite.max_uses, 410, 'invite-used-up', 'This invitation was used up. Ask for a new one.')
  ) r (n, is_so, status, type, message)
  where r.is_so
  order by r.n
  limit 1;
  if v_refused.status is null then
    return null;
  end if;
  return jsonb_build_object('status', v_refused.status, 'type', v_refused.type, 'message',
    coalesce(v_refused.message, lull.expired_sentence(p_session, p_room.kind, 'invitation link')),
    'members', case when v_refused.status = 409 then jsonb_build_object('currentStatus', p_room.status) else '{}' end);
end
$$;
