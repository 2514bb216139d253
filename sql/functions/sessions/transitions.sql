-- Sessions: the front end's side. Create, activate, pause, resume, end, claim.
--
-- Callers are as in core/sessions.sql. Each transition locks the session first, changes it once and appends one event
-- under that lock.

-- Create a session, or repeat the answer to an idempotency key.
--   p_session      the id, chosen by the caller (its token is made from it)
--   p_token_hash   the hash of an anonymous owner's token, in hexadecimal; null for a user or the service
--   p_idempotency  {"scope", "key", "request_hash"} or null. The key is inserted first: a second request with it
--                  waits, and gets the first one's answer; with another body it gets 422. With "only_replay": true
--                  a new key is refused (403), because the flag is off for the caller
--   p_limits       what sessions/limits.sql counts, or null for a caller without limits; 429 when one is reached. A
--                  repeated answer counts as nothing. Its "metadata_bytes" is how long p_metadata may be (16 KiB)
--                  "table" is an adopted table: the session is the companion of the row that the app inserts with this
--                  id
--                  "game" is what only a game has: {"guild_id", "state", "max_state_bytes"}. The external key of a game
--                  is unique among open games: 409 when it is taken, whether the holder's protection is exempt or not
-- Locks the key, then the counters, then the external key. Returns {"session", "replayed", "token_rotation", "limits"};
-- no limits in an answer that is repeated.
create or replace function public.lull_create_session(
  p_session uuid, p_kind text, p_status text, p_title text, p_external_key text, p_mode text, p_metadata jsonb,
  p_owner uuid, p_token_hash text, p_idempotency jsonb, p_limits jsonb default null)
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
  v_session lull.sessions;
  v_limits jsonb;
  v_companion_of text := lull.table_for(p_limits ->> 'table', p_kind);
  v_game jsonb := p_limits -> 'game';
begin
  if v_answer is not null then
    return v_answer || '{"replayed": true}';
  elsif (p_idempotency ->> 'only_replay')::boolean then
    perform lull.refuse(403, 'early-sessions-off', 'Early chats are off, and this Idempotency-Key is new.');
  end if;
  perform lull.check_size('metadata', p_metadata, coalesce((p_limits ->> 'metadata_bytes')::integer, 16384));
  v_limits := lull.count_creation(p_kind, p_status, p_owner,
    nullif(p_limits - '{table,game}'::text[], '{}') || jsonb_build_object('bytes', octet_length(p_metadata::text)));
  perform lull.check_size('state', v_game -> 'state', (v_game ->> 'max_state_bytes')::integer);
  loop
    perform lull.refuse_taken_key(p_kind, p_external_key);
    insert into lull.sessions (id, kind, status, title, external_key, mode, metadata, owner_id, owner_token_hash,
      client_hash, first_message_at, companion_of, guild_id, state)
    values (p_session, p_kind, p_status, p_title, p_external_key, p_mode, coalesce(p_metadata, '{}'), p_owner,
      decode(p_token_hash, 'hex'), case when p_owner is null then decode(p_limits ->> 'client_hash', 'hex') end,
      case when p_status = 'active' then now() end, v_companion_of, v_game ->> 'guild_id',
      coalesce(nullif(v_game -> 'state', 'null'), '{}'))
    on conflict (external_key) where kind = 'game' and status <> 'ended' and not key_exempt do nothing
    returning * into v_session;
    exit when found;
  end loop;
  perform lull.append_event(v_session.id, v_session.kind, 'created', jsonb_build_object('status', v_session.status));
  if v_session.kind = 'game' and v_session.status = 'active' then
    perform lull.append_game_event(v_session.id, 'initialized');
  end if;
  v_answer := jsonb_build_object('session', lull.session_json(v_session), 'replayed', false,
    'token_rotation', v_session.token_rotation);
  perform lull.end_once(p_idempotency, v_answer);
  return v_answer || jsonb_build_object('limits', v_limits);
end
$$;

-- Refuse (409) a game whose external key an open game has, and name that game. A game that was open before keys became
-- unique counts, too. A key that is being taken by another call is left to the unique index.
create or replace function lull.refuse_taken_key(p_kind text, p_key text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_holder uuid;
begin
  if p_kind <> 'game' or p_key is null then
    return;
  end if;
  select id into v_holder from lull.sessions
  where external_key = p_key and kind = 'game' and status <> 'ended'
  order by created_at desc, id desc
  limit 1;
  if v_holder is not null then
    perform lull.refuse(409, 'external-key-taken',
      'An open game has this externalKey. Nothing was created; use that game, or end it.',
      jsonb_build_object('sessionId', v_holder)::text);
  end if;
end
$$;

-- The name of the adopted table that a new session is for; null for none. Raises 422 for another kind and for a table
-- that is not adopted.
create or replace function lull.table_for(p_table text, p_kind text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
begin
  if p_table is null then
    return null;
  end if;
  v_target := lull.adopted_table(p_table);
  if v_target.kind <> p_kind then
    perform lull.refuse(422, 'invalid-parameter',
      format('Sessions in %s are of kind %s. Nothing was created.', v_target.name, v_target.kind));
  end if;
  return v_target.name;
end
$$;

-- Activate a session on its first message. Idempotent: a second call changes nothing and answers with the first
-- first_message_at. A draft that the cleanup archived is restored with everything below it; the owner of one that was
-- purged gets 410. A table in p_caller: see lull.own_places. Returns {"session", "activated", "restored", "missing",
-- "reasons"}:
-- how many rows could not come back with it, and why. Lock order: session, archive key, session again (another late
-- activation may have restored it meanwhile).
create or replace function public.lull_activate_session(
  p_session uuid, p_caller jsonb, p_version integer default null)
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
  v_place text := lull.own_place(p_session, p_caller, p_caller ->> 'table');
  v_session lull.sessions;
  v_restored jsonb;
begin
  if v_place is null then
    v_restored := lull.restore_own(p_session, p_caller, p_caller ->> 'table');
    v_place := lull.own_place(p_session, p_caller, p_caller ->> 'table');
  end if;
  if v_place is null then
    perform lull.no_such_session(p_session, p_caller);
  elsif v_place <> 'lull.sessions' then
    return lull.activate_row_session(v_place, p_session, p_caller, p_version, v_restored);
  end if;
  v_session := lull.lock_session(p_session);
  if v_session.id is null then
    v_restored := lull.restore_key('lull.sessions', p_session::text, p_caller);  -- a batch took it meanwhile
    v_session := lull.lock_session(p_session);
  end if;
  perform lull.check_owner(v_session, p_session, p_caller);
  if p_version is not null and p_version <> v_session.version then
    perform lull.version_mismatch(v_session);
  elsif v_session.status in ('paused', 'ended') then
    perform lull.wrong_status(v_session, 'activated');
  end if;
  if v_session.status = 'draft' then
    -- What could not come back with it earlier (a remainder) is tried again.
    v_restored := coalesce(lull.restore_key('lull.sessions', p_session::text, p_caller), v_restored);
  end if;
  return lull.activate_locked(v_session, v_restored) || lull.restored_json(v_restored);
end
$$;

-- Change a session's status where the state machine has the way, and append the event. Activity, except for an end.
create or replace function lull.change_status(
  p_session uuid, p_caller jsonb, p_version integer, p_from text[], p_to text, p_event text, p_reason text default null)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
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
  if p_to = 'ended' and v_session.kind = 'game' then
    perform lull.append_game_event(p_session, 'terminated', jsonb_build_object('reason', v_reason));
  end if;
  return jsonb_build_object('session', lull.session_json(v_session));
end
$$;

-- Change the status of a caller's session, in lull.sessions or in a team's table. Raises 404, 409, 410 or 412.
create or replace function lull.move_session(
  p_session uuid, p_caller jsonb, p_version integer, p_table text, p_from text[], p_to text, p_event text,
  p_reason text default null)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_place text := lull.own_place(p_session, p_caller, p_table);
begin
  if v_place is null then
    perform lull.no_such_session(p_session, p_caller);
  elsif v_place = 'lull.sessions' then
    return lull.change_status(p_session, p_caller, p_version, p_from, p_to, p_event, p_reason);
  end if;
  return lull.move_row_session(v_place, p_session, p_caller, p_version, p_from, p_to, p_event, p_reason);
end
$$;

-- active → paused. A paused session is never cleaned.
create or replace function public.lull_pause_session(
  p_session uuid, p_caller jsonb, p_version integer default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select lull.move_session(p_session, p_caller, p_version, p_caller ->> 'table', '{active}', 'paused', 'paused');
$$;

-- paused → active.
create or replace function public.lull_resume_session(
  p_session uuid, p_caller jsonb, p_version integer default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select lull.move_session(p_session, p_caller, p_version, p_caller ->> 'table', '{paused}', 'active', 'resumed');
$$;

-- draft, active, paused → ended. Keeps the row as history; a draft's reason is `discarded`.
create or replace function public.lull_end_session(
  p_session uuid, p_caller jsonb, p_version integer default null, p_reason text default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select lull.move_session(
    p_session, p_caller, p_version, p_caller ->> 'table', '{draft,active,paused}', 'ended', 'ended', p_reason);
$$;
