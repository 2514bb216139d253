-- Sessions in a team's table: their JSON, and their transitions. Every answer is read from the team's row; what it
-- has no column for is read from its companion (core/own_rows.sql).

-- A session in a team's table as callers see it: like lull.session_json, and with the table's name.
create or replace function lull.row_session_json(
  p_target lull.targets, p_id uuid, p_row jsonb, p_companion lull.sessions)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'id', p_id, 'table', p_target.name, 'kind', p_target.kind, 'status', p_row -> 'status', 'title', p_companion.title,
    'external_key', p_companion.external_key, 'mode', p_companion.mode,
    'metadata', coalesce(p_companion.metadata, '{}'), 'version', coalesce(p_companion.version, 1),
    'created_at', coalesce(p_row ->> 'created_at', to_jsonb(p_companion.created_at) #>> '{}',
      to_jsonb(p_target.adopted_at) #>> '{}'),
    'first_message_at', p_row -> 'first_message_at',
    'last_activity_at', coalesce(
      to_jsonb(greatest((p_row ->> 'last_activity_at')::timestamptz, lull.active_at(p_companion))) #>> '{}',
      p_row ->> 'created_at', to_jsonb(p_target.adopted_at) #>> '{}'),
    'paused_at', case when p_companion.status = p_row ->> 'status' then p_companion.paused_at end,
    'ended_at', case when p_companion.status = p_row ->> 'status' then p_companion.ended_at end,
    'end_reason', case when p_companion.status = p_row ->> 'status' then p_companion.end_reason end,
    'expired', p_row ->> 'status' = 'active' and coalesce(
      greatest((p_row ->> 'last_activity_at')::timestamptz, lull.active_at(p_companion))
        < now() - lull.expire_after(p_target.kind), false));
$$;

-- A session in a team's table as a reader sees it, with its companion.
create or replace function lull.read_row_session(p_table text, p_id uuid)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
  v_row jsonb;
  v_session lull.sessions;
begin
  select * into v_target from lull.targets where name = p_table;
  v_row := lull.read_own_row(v_target, p_id);
  select * into v_session from lull.sessions where id = p_id;
  if not lull.is_companion(v_session, v_target, v_row) then
    v_session := null;
  end if;
  return lull.row_session_json(v_target, p_id, v_row, v_session);
end
$$;

-- Change the status of a session in a team's table: the row in one statement, then its companion's version and clock,
-- and the event. The caller of this function found the place; it raises 404 when the row is gone meanwhile, 412 for
-- another version, 409 where the state machine or the table refuses. Without p_to the status stays. Returns
-- {"session"}.
create or replace function lull.move_row_session(
  p_table text, p_id uuid, p_caller jsonb, p_version integer, p_from text[], p_to text, p_event text,
  p_reason text default null, p_owner uuid default null)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_locked record;
  v_seen lull.sessions;
  v_row jsonb;
  v_companion lull.sessions;
  v_reason text := p_reason;
begin
  -- A version is kept by a companion: a caller that names one needs it.
  select * into v_locked from lull.lock_row_session(
    p_table, p_id, p_caller, 'for no key update of t', case when p_version is null then 'never' else 'may' end);
  if v_locked.o_row is null then
    perform lull.no_such_session(p_id, p_caller);
  end if;
  v_companion := v_locked.o_companion;
  v_seen.status := v_locked.o_row ->> 'status';
  v_seen.version := coalesce(v_companion.version, 1);
  if p_version is not null and p_version <> v_seen.version then
    perform lull.version_mismatch(v_seen);
  elsif v_seen.status <> all (p_from) then
    perform lull.wrong_status(v_seen, p_event);
  end if;
  if p_to = 'ended' then
    v_reason := coalesce(p_reason, case v_seen.status when 'draft' then 'discarded' else 'ended' end);
  end if;
  v_row := lull.write_own_row(v_locked.o_target, p_id, v_locked.o_row, p_to, p_owner);
  update lull.sessions
  set status = coalesce(p_to, status), version = version + 1, owner_id = coalesce(p_owner, owner_id),
    owner_token_hash = case when p_owner is null then owner_token_hash end,
    client_hash = case when p_owner is null then client_hash end,
    first_message_at = case when p_to = 'active'
      then coalesce(first_message_at, (v_row ->> 'first_message_at')::timestamptz, now()) else first_message_at end,
    paused_at = case coalesce(p_to, status)
      when 'paused' then coalesce(paused_at, now()) when 'ended' then paused_at end,
    ended_at = case coalesce(p_to, status) when 'ended' then coalesce(ended_at, now()) end,
    end_reason = case coalesce(p_to, status) when 'ended' then coalesce(v_reason, end_reason) end
  where id = v_companion.id
  returning * into v_companion;
  perform lull.append_row_event(p_table, p_id, (v_locked.o_target).kind, p_event,
    case when v_reason is null then '{}' else jsonb_build_object('reason', v_reason) end);
  return jsonb_build_object('session', lull.row_session_json(v_locked.o_target, p_id, v_row, v_companion));
end
$$;

-- Activate a session in a team's table; a second call changes nothing. p_restored is what brought it back, if anything
-- did: then its clock moves, so that the next run does not take it again. Returns as lull_activate_session does.
create or replace function lull.activate_row_session(
  p_table text, p_id uuid, p_caller jsonb, p_version integer, p_restored jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_locked record;
  v_companion lull.sessions;
  v_row jsonb;
  v_answer jsonb;
begin
  select * into v_locked from lull.lock_row_session(p_table, p_id, p_caller, 'for no key update of t', 'never');
  if v_locked.o_row ->> 'status' = 'active' then
    v_companion := v_locked.o_companion;
    v_row := v_locked.o_row;
    if p_version is not null and p_version <> coalesce(v_companion.version, 1) then
      v_companion.status := 'active';
      v_companion.version := coalesce(v_companion.version, 1);
      perform lull.version_mismatch(v_companion);
    elsif p_restored is not null then
      v_row := lull.write_own_row(v_locked.o_target, p_id, v_row, null);
    end if;
    v_answer := jsonb_build_object('activated', false,
      'session', lull.row_session_json(v_locked.o_target, p_id, v_row, v_companion));
  else
    -- What could not come back with it earlier (a remainder) is tried again.
    p_restored := coalesce(lull.restore_key(p_table, p_id::text, p_caller), p_restored);
    v_answer := jsonb_build_object('activated', true) || lull.move_row_session(
      p_table, p_id, p_caller, p_version, '{draft}', 'active', 'activated');
  end if;
  return v_answer || lull.restored_json(p_restored);
end
$$;

-- What an answer says of a restore: {"restored", "missing", "reasons"}; missing rows stay in the archive.
create or replace function lull.restored_json(p_restored jsonb)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return jsonb_build_object('restored', coalesce((p_restored ->> 'restored')::integer > 0, false),
    'missing', coalesce(p_restored -> 'missing', '0'),
    'reasons', coalesce(p_restored -> 'reasons', '[]'));
end
$$;

-- Restore an archived session of the caller's, wherever it was: of one table when p_table names it. Null when the
-- archive holds none of the caller's.
create or replace function lull.restore_own(p_id uuid, p_caller jsonb, p_table text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target text;
  v_restored jsonb;
begin
  for v_target in
    select name from lull.targets
    where (kind is not null or name = 'lull.sessions')
      and (p_table is null or name in (p_table, 'public.' || p_table))
    order by builtin, name
  loop
    v_restored := lull.restore_key(v_target, p_id::text, p_caller);
    exit when v_restored is not null;
  end loop;
  return v_restored;
end
$$;
