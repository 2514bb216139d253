-- Sessions: the front end's side. Create, activate, pause, resume, end, claim.
--
-- Callers are as in core_callers.sql. Each transition locks the session first, changes it once and appends one event
-- under that lock.

-- A session as callers see it.
create or replace function lull.session_json(p_session lull.sessions)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', p_session.id, 'kind', p_session.kind, 'status', p_session.status, 'title', p_session.title,
    'external_key', p_session.external_key, 'mode', p_session.mode, 'metadata', p_session.metadata,
    'version', p_session.version, 'created_at', p_session.created_at,
    'first_message_at', p_session.first_message_at, 'last_activity_at', p_session.last_activity_at,
    'paused_at', p_session.paused_at, 'ended_at', p_session.ended_at, 'end_reason', p_session.end_reason,
    'expired', p_session.status = 'active'
      and coalesce(p_session.last_activity_at < now() - lull.expire_after(p_session.kind), false));
$$;

-- Create a session, or repeat the answer to an idempotency key.
--   p_session      the id, chosen by the caller (its token is made from it)
--   p_token_hash   the hash of an anonymous owner's token, in hexadecimal; null for a user or the service
--   p_idempotency  {"scope", "key", "request_hash"} or null. The key is inserted first: a second request with it
--                  waits, and gets the first one's answer; with another body it gets 422
--   p_limits       what sessions_limits.sql counts, or null for a caller without limits; 429 when one is reached. A
--                  repeated answer counts as nothing
-- Locks the key, then the counters. Returns {"session", "replayed", "token_rotation", "limits"}; no limits in an answer
-- that is repeated.
create or replace function public.lull_create_session(
  p_session uuid, p_kind text, p_status text, p_title text, p_external_key text, p_mode text, p_metadata jsonb,
  p_owner uuid, p_token_hash text, p_idempotency jsonb, p_limits jsonb default null)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_key lull.idempotency_keys;
  v_session lull.sessions;
  v_limits jsonb;
  v_answer jsonb;
begin
  if p_idempotency is not null then
    insert into lull.idempotency_keys as k (scope, key, request_hash, session_id)
    values (p_idempotency ->> 'scope', p_idempotency ->> 'key', decode(p_idempotency ->> 'request_hash', 'hex'),
      p_session)
    on conflict (scope, key) do update
      set request_hash = excluded.request_hash, session_id = excluded.session_id, answer = null, created_at = now()
      where k.created_at <= now() - interval '24 hours';
    if not found then
      select * into v_key from lull.idempotency_keys
      where scope = p_idempotency ->> 'scope' and key = p_idempotency ->> 'key';
      if v_key.request_hash <> decode(p_idempotency ->> 'request_hash', 'hex') then
        perform lull.refuse(422, 'idempotency-key-reused',
          'This Idempotency-Key was used for another request. Nothing was created; use a new key.');
      end if;
      return v_key.answer || '{"replayed": true}';
    end if;
  end if;

  v_limits := lull.count_creation(p_kind, p_status, p_owner, p_limits);
  insert into lull.sessions (id, kind, status, title, external_key, mode, metadata, owner_id, owner_token_hash,
    client_hash, first_message_at)
  values (p_session, p_kind, p_status, p_title, p_external_key, p_mode, coalesce(p_metadata, '{}'), p_owner,
    decode(p_token_hash, 'hex'), case when p_owner is null then decode(p_limits ->> 'client_hash', 'hex') end,
    case when p_status = 'active' then now() end)
  returning * into v_session;
  perform lull.append_event(v_session.id, v_session.kind, 'created', jsonb_build_object('status', v_session.status));
  v_answer := jsonb_build_object('session', lull.session_json(v_session), 'replayed', false,
    'token_rotation', v_session.token_rotation);
  update lull.idempotency_keys set answer = v_answer
  where scope = p_idempotency ->> 'scope' and key = p_idempotency ->> 'key';
  return v_answer || jsonb_build_object('limits', v_limits);
end
$$;

-- Activate a session on its first message. Idempotent: a second call changes nothing and answers with the first
-- first_message_at. A draft that the cleanup archived is restored with everything below it; the owner of one that
-- was purged gets 410. Returns {"session", "activated", "restored"}.
-- Lock order: session, archive row, session again (another late activation may have restored it meanwhile).
create or replace function public.lull_activate_session(p_session uuid, p_caller jsonb, p_version integer default null)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_session lull.sessions := lull.lock_session(p_session);
  v_restored boolean := false;
  v_activated boolean;
begin
  if v_session.id is null then
    v_restored := lull.restore_own_session(p_session, p_caller);
    v_session := lull.lock_own_session(p_session, p_caller);
  elsif not lull.is_owner(v_session.owner_id, v_session.owner_token_hash, p_caller) then
    perform lull.no_such_session(p_session, p_caller);
  end if;
  v_activated := v_session.status = 'draft';
  if p_version is not null and p_version <> v_session.version then
    perform lull.version_mismatch(v_session);
  elsif v_session.status in ('paused', 'ended') then
    perform lull.wrong_status(v_session, 'activated');
  elsif v_activated then
    v_restored := lull.merge_archived(p_session) or v_restored;
    update lull.sessions
    set status = 'active', first_message_at = now(), version = version + 1,
      last_activity_at = greatest(last_activity_at, now())
    where id = p_session
    returning * into v_session;
    perform lull.append_event(p_session, v_session.kind, 'activated');
  elsif v_restored then
    -- It comes back as old as it went: without this, the next run would take it again.
    update lull.sessions
    set last_activity_at = greatest(last_activity_at, now())
    where id = p_session
    returning * into v_session;
  end if;
  return jsonb_build_object('session', lull.session_json(v_session), 'activated', v_activated, 'restored', v_restored);
end
$$;

-- Restore an archived session of the caller's. Locks the archive row before it reads the owner. Returns whether it
-- was restored; false when the archive does not hold it, or not for this caller.
create or replace function lull.restore_own_session(p_session uuid, p_caller jsonb)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_row jsonb;
begin
  select a.row into v_row from lull.archive a
  where a.target = 'lull.sessions' and a.key = p_session::text
  for update;
  if v_row is null
    or not lull.is_owner((v_row ->> 'owner_id')::uuid, (v_row ->> 'owner_token_hash')::bytea, p_caller) then
    return false;
  end if;
  return (lull.restore_archived('lull.sessions', p_session::text) ->> 'restored')::boolean;
end
$$;

-- Bring back what hangs below an archived session whose row was made again meanwhile (an app that inserts its own id
-- once more), and take it out of the archive. The caller holds the session's lock. Returns whether there was one.
create or replace function lull.merge_archived(p_session uuid)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_archived lull.archive;
  v_children jsonb;
begin
  select * into v_archived from lull.archive where target = 'lull.sessions' and key = p_session::text for update;
  if not found then
    return false;
  end if;
  v_children := lull.restore_children(v_archived.children);
  delete from lull.archive where id = v_archived.id;
  perform lull.append_event(p_session, v_archived.row ->> 'kind', 'restored',
    jsonb_build_object('run', v_archived.run_id, 'children', v_children -> 'children'));
  return true;
end
$$;

-- Refuse a transition that the state machine does not have: 409 with the current status. Never returns.
create or replace function lull.wrong_status(p_session lull.sessions, p_verb text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform lull.refuse(409, 'wrong-status',
    format('A session that is %s cannot be %s. Nothing was changed.', p_session.status, p_verb),
    jsonb_build_object('currentStatus', p_session.status, 'version', p_session.version)::text);
end
$$;

-- Refuse a change of a version that is not the current one: 412 with both. Never returns.
create or replace function lull.version_mismatch(p_session lull.sessions)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform lull.refuse(412, 'version-mismatch',
    format('The session was changed meanwhile: its version is %s. Nothing was changed; read it and try again.',
      p_session.version),
    jsonb_build_object('currentStatus', p_session.status, 'version', p_session.version)::text);
end
$$;

-- Change a session's status where the state machine has the way, and append the event. Activity, except for an end.
create or replace function lull.change_status(
  p_session uuid, p_caller jsonb, p_version integer, p_from text[], p_to text, p_event text, p_reason text default null)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_session lull.sessions := lull.lock_own_session(p_session, p_caller);
  v_reason text := p_reason;
begin
  if p_version is not null and p_version <> v_session.version then
    perform lull.version_mismatch(v_session);
  elsif v_session.status <> all (p_from) then
    perform lull.wrong_status(v_session, p_event);
  end if;
  if p_to = 'ended' then
    v_reason := coalesce(p_reason, case v_session.status when 'draft' then 'discarded' else 'ended' end);
  end if;
  update lull.sessions
  set status = p_to, version = version + 1,
    paused_at = case p_to when 'paused' then now() when 'ended' then paused_at end,
    ended_at = case p_to when 'ended' then now() end,
    end_reason = v_reason,
    last_activity_at = greatest(last_activity_at, now())
  where id = p_session
  returning * into v_session;
  perform lull.append_event(p_session, v_session.kind, p_event,
    case when v_reason is null then '{}' else jsonb_build_object('reason', v_reason) end);
  return jsonb_build_object('session', lull.session_json(v_session));
end
$$;

-- active → paused. A paused session is never cleaned.
create or replace function public.lull_pause_session(p_session uuid, p_caller jsonb, p_version integer default null)
returns jsonb
language sql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.change_status(p_session, p_caller, p_version, '{active}', 'paused', 'paused');
$$;

-- paused → active.
create or replace function public.lull_resume_session(p_session uuid, p_caller jsonb, p_version integer default null)
returns jsonb
language sql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.change_status(p_session, p_caller, p_version, '{paused}', 'active', 'resumed');
$$;

-- draft, active, paused → ended. Keeps the row as history; a draft's reason is `discarded`.
create or replace function public.lull_end_session(
  p_session uuid, p_caller jsonb, p_version integer default null, p_reason text default null)
returns jsonb
language sql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.change_status(p_session, p_caller, p_version, '{draft,active,paused}', 'ended', 'ended', p_reason);
$$;

-- Make a signed-in user the owner of an anonymous session whose token they hold; the token is void afterwards.
-- Idempotent. Anybody else gets 404.
create or replace function public.lull_claim_ownership(p_session uuid, p_user uuid, p_token_hash text)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_session lull.sessions := lull.lock_own_session(p_session,
    jsonb_build_object('user_id', p_user, 'token_hash', p_token_hash));
begin
  if v_session.owner_id is distinct from p_user then
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
