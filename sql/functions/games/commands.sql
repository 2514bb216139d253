-- Games: commands. A command changes a game's state once, however often it is sent.
--
-- A command's row goes in before the session's row is locked. That order cannot deadlock: no call that holds the lock
-- of a session waits for a command's id.

-- Apply a command to an active game, or repeat the answer to one that was applied.
--   p_command          {"id", "hash" (of the request, hexadecimal), "name", "version", "patch" or "error", "events":
--                      [{"event", "data"}], "fence"}. A patch is a JSON merge patch (RFC 7396) of the state. With an
--                      error state and version stay, and the event `error` has the text
--   p_max_state_bytes  the largest state as Postgres writes JSON
-- The game's version must be the command's, and the fence that of the game if an instance owns it. A refused command
-- leaves nothing behind. Raises 404, 409 (owner-displaced, wrong-status), 412, 422 (state-too-large and
-- command-id-reused). Locks the command's id, then the session. Returns {"version", "fence", "replayed"}.
create or replace function public.lull_apply_command(p_session uuid, p_command jsonb, p_max_state_bytes integer)
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
  v_id constant text := p_command ->> 'id';
  v_version constant integer := (p_command ->> 'version')::integer;
  v_fence constant bigint := (p_command ->> 'fence')::bigint;
  v_patch constant jsonb := nullif(p_command -> 'patch', 'null');
  v_error constant text := p_command ->> 'error';
  v_next constant integer := v_version + case when v_error is null then 1 else 0 end;
  v_is_flat constant boolean := lull.is_flat(v_patch);
  v_broadcasts constant boolean := to_regprocedure('realtime.send(jsonb, text, text, boolean)') is not null;
  v_applied record;
begin
  with command as (
    insert into lull.session_commands (session_id, command_id, request_hash, version)
    values (p_session, v_id, decode(p_command ->> 'hash', 'hex'), v_next)
    on conflict do nothing
    returning command_id
  ), changed as (
    update lull.sessions s
    set version = v_next, commanded_at = greatest(s.commanded_at, now()), recoveries = 0,
      last_activity_at = case when s.last_activity_at < now() - interval '60 s' then now() else s.last_activity_at end,
      state = case when v_patch is null then s.state when v_is_flat then s.state || v_patch
        else lull.merge_patch(s.state, v_patch) end
    from command
    where s.id = p_session and s.kind = 'game' and s.companion_of is null and s.status = 'active'
      and s.version = v_version and case when v_fence is null then s.incarnation is null else s.fence = v_fence end
    returning s.fence, case when v_patch is not null then octet_length(s.state::text) end as bytes
  ), logged as (
    insert into lull.session_events as l (session_id, kind, event, data)
    select p_session, 'game', e.event, e.data from changed
    cross join lateral lull.command_events(p_command, v_next) e
    returning l as event
  )
  select (select count(*) = 1 from command) as is_new, c.fence, c.bytes,
    case when v_broadcasts then (select array_agg(l.event order by (l.event).id) from logged l) end as events
  into v_applied
  from (values (1)) one left join changed c on true;
  if not v_applied.is_new then
    return lull.replay_command(p_session, p_command);
  elsif v_applied.fence is null then
    perform lull.refuse_command(p_session, v_version, v_fence);
  elsif v_applied.bytes > p_max_state_bytes then
    perform lull.refuse(422, 'state-too-large', format(
      'The state would have %s bytes as Postgres writes JSON, and may have %s. Nothing was changed.',
      v_applied.bytes, p_max_state_bytes));
  end if;
  perform lull.broadcast_to(e, '{game}') from unnest(v_applied.events) e;
  return jsonb_build_object('version', v_next, 'fence', v_applied.fence, 'replayed', false);
end
$$;

-- The events of a command, in their order: what became of it, then its own.
create or replace function lull.command_events(p_command jsonb, p_version integer)
returns table (event text, data jsonb)
language sql
immutable
set search_path = pg_catalog, pg_temp
rows 2
as $$
  select case when p_command ->> 'error' is null then 'command_processed' else 'error' end,
    jsonb_build_object('commandId', p_command -> 'id', 'name', p_command -> 'name', 'version', p_version)
      || case when p_command ->> 'error' is null then '{}' else jsonb_build_object('error', p_command -> 'error') end
  union all
  select e ->> 'event', coalesce(nullif(e -> 'data', 'null'), '{}')
  from jsonb_array_elements(coalesce(nullif(p_command -> 'events', 'null'), '[]')) e;
$$;

-- Answer a command that was applied already. Raises 422 when the id was another command's. The game may be gone.
create or replace function lull.replay_command(p_session uuid, p_command jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_command lull.session_commands;
begin
  select * into v_command from lull.session_commands
  where session_id = p_session and command_id = p_command ->> 'id';
  if v_command.request_hash <> decode(p_command ->> 'hash', 'hex') then
    perform lull.refuse(422, 'command-id-reused',
      'This commandId was used for another command of this game. Nothing was changed; use a new id.');
  end if;
  return jsonb_build_object('version', v_command.version, 'replayed', true,
    'fence', (select s.fence from lull.sessions s where s.id = p_session));
end
$$;

-- Say why a command was not applied. Reads the game anew, because it may have changed while the command waited for
-- its lock. Never returns.
create or replace function lull.refuse_command(p_session uuid, p_version integer, p_fence bigint)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_game lull.sessions;
begin
  select * into v_game from lull.sessions where id = p_session and kind = 'game' and companion_of is null;
  if v_game.id is null then
    perform lull.no_such_session(p_session, '{"service": true}');
  elsif not (case when p_fence is null then v_game.incarnation is null else v_game.fence = p_fence end) then
    perform lull.owner_displaced(v_game);
  elsif v_game.status <> 'active' then
    perform lull.wrong_status(v_game, 'sent a command');
  end if;
  perform lull.version_mismatch(v_game);
end
$$;

-- Refuse because another fence than the caller's is the game's: 409 with the current one. Never returns.
create or replace function lull.owner_displaced(p_game lull.sessions)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform lull.refuse(409, 'owner-displaced', format(
    'The game''s fence is %s, and the caller''s is another: its owner has changed. Nothing was changed; %s',
    p_game.fence, 'stop the game here, or claim it.'),
    jsonb_build_object('fence', p_game.fence, 'currentStatus', p_game.status, 'version', p_game.version)::text);
end
$$;

-- Whether a merge patch is the same as `||`: no nested object and no null. True for no patch.
create or replace function lull.is_flat(p_patch jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select p_patch is null
    or not jsonb_path_exists(p_patch, 'strict $.* ? (@.type() == "object" || @.type() == "null")');
$$;

-- Apply a JSON merge patch (RFC 7396): null removes a name, an object is merged, any other value replaces.
create or replace function lull.merge_patch(p_target jsonb, p_patch jsonb)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target jsonb := case jsonb_typeof(p_target) when 'object' then p_target else '{}' end;
  v_one record;
begin
  if jsonb_typeof(p_patch) <> 'object' then
    return p_patch;
  end if;
  for v_one in select key, value from jsonb_each(p_patch) loop
    v_target := case jsonb_typeof(v_one.value)
      when 'null' then v_target - v_one.key
      when 'object' then v_target || jsonb_build_object(v_one.key,
        lull.merge_patch(v_target -> v_one.key, v_one.value))
      else v_target || jsonb_build_object(v_one.key, v_one.value) end;
  end loop;
  return v_target;
end
$$;
