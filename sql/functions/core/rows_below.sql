-- Core: what hangs below a session (files, used items of the library), for its owner. Of a session in a team's table it
-- hangs on the row's companion.

-- Lock a caller's session for a change of what hangs below it (p_things: in messages), and record activity. For one in
-- a team's table: the row `for key share`, then its companion. Raises 404 or 410 when it is gone, 409 when it ended or
-- another session has the id.
create or replace function lull.lock_session_for_rows(p_session uuid, p_caller jsonb, p_table text, p_things text)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_place text := lull.own_place(p_session, p_caller, p_table);
  v_locked record;
  v_session lull.sessions;
  v_status text;
begin
  if v_place <> 'lull.sessions' then
    select * into v_locked from lull.lock_row_session(v_place, p_session, p_caller, 'for key share of t', 'must');
    if v_locked.o_row is null then
      perform lull.no_such_session(p_session, p_caller);
    end if;
    v_session := v_locked.o_companion;
    v_status := v_locked.o_row ->> 'status';
  else
    v_session := lull.lock_own_session(p_session, p_caller);
    v_status := v_session.status;
  end if;
  if v_status = 'ended' then
    perform lull.refuse(409, 'wrong-status',
      format('The %s of a session that is ended cannot be changed. Nothing was changed.', p_things),
      jsonb_build_object('currentStatus', v_status, 'version', v_session.version)::text);
  end if;
  return lull.touch_session(p_session);
end
$$;

-- Whether a session of the caller's can have rows below it. Raises 404 or 410. What a team's row has hangs on its
-- companion: where another session has the id, the row has none.
create or replace function lull.has_rows(p_session uuid, p_caller jsonb, p_table text)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_place text := lull.own_place(p_session, p_caller, p_table);
  v_target lull.targets;
  v_session lull.sessions;
begin
  if v_place is null then
    perform lull.no_such_session(p_session, p_caller);
  elsif v_place = 'lull.sessions' then
    return true;
  end if;
  select * into v_target from lull.targets where name = v_place;
  select * into v_session from lull.sessions where id = p_session;
  return lull.is_companion(v_session, v_target, lull.read_own_row(v_target, p_session));
end
$$;

-- Lock a caller's session in a team's table: the row (p_lock: a locking clause), then its companion (p_make: see
-- lull.companion_of_row). o_row is null when the row is gone or another's meanwhile.
create or replace function lull.lock_row_session(
  p_table text, p_id uuid, p_caller jsonb, p_lock text, p_make text,
  out o_target lull.targets, out o_row jsonb, out o_companion lull.sessions)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  select * into o_target from lull.targets where name = p_table;
  o_row := lull.read_own_row(o_target, p_id, p_lock);
  select * into o_companion from lull.sessions where id = p_id;
  if o_row is null or not lull.is_row_owner(o_target, o_row, o_companion, p_caller) then
    o_row := null;
    return;
  end if;
  o_companion := lull.companion_of_row(o_target, p_id, o_row, p_make);
end
$$;
