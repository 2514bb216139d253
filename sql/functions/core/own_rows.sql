-- Core: a row of a team's table as a session. Read, locked, and written by a transition; never copied.
--
-- Lock order: the team's row, then its companion in lull.sessions, then what hangs below either.

-- A session in a team's table: {"owner", "status" (one of the four words or `other`), "value" (what the column holds),
-- "first_message_at", "last_activity_at", "created_at"}; null when there is no such row, or no such table or column any
-- more (with a warning). p_lock is a locking clause, such as `for key share of t`.
create or replace function lull.read_own_row(p_target lull.targets, p_id uuid, p_lock text default '')
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_row jsonb;
begin
  execute format('select %s from %s t where t.%I operator(pg_catalog.=) $1 %s',
    lull.own_row_expression(p_target), p_target.name, p_target.key_columns[1], p_lock)
  into v_row using p_id;
  return v_row;
exception when undefined_table or undefined_column or wrong_object_type or feature_not_supported then
  raise warning 'the adoption of % does not fit the table any more: %', p_target.name, sqlerrm;
  return null;
end
$$;

-- What read_own_row returns, as SQL on the row t. Names are whole, operators too: it also runs under a team's path.
create or replace function lull.own_row_expression(p_target lull.targets)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('pg_catalog.jsonb_build_object(''owner'', %s, ''status'', %s, ''value'', %s, ''first_message_at'', %s,
    ''last_activity_at'', %s, ''created_at'', %s)',
    lull.column_expression(p_target.owner_column), lull.status_expression(p_target),
    lull.column_expression(p_target.status_column) || '::pg_catalog.text',
    lull.column_expression(p_target.first_message_column), case when p_target.participants ->> 'seen' is null
      then lull.column_expression(p_target.clock_column)
      else format('greatest(%s, %s)', lull.column_expression(p_target.clock_column),
        lull.people_clock_expression(p_target)) end,
    lull.created_expression(p_target));
$$;

-- A column of the row t as SQL; the SQL null for one that the mapping does not name.
create or replace function lull.column_expression(p_column text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce('t.' || quote_ident(p_column), 'null');
$$;

-- When a row was created, as SQL: its created_at, else its clock.
create or replace function lull.created_expression(p_target lull.targets)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when exists (
      select 1 from pg_catalog.pg_attribute a
      where a.attrelid = to_regclass(p_target.name) and a.attname = 'created_at' and not a.attisdropped
        and a.atttypid = 'timestamptz'::regtype) then 't.created_at'
    else lull.column_expression(p_target.clock_column) end;
$$;

-- Whether a row of lull.sessions is the companion of a row (lull.companion_condition says the same as SQL).
create or replace function lull.is_companion(p_session lull.sessions, p_target lull.targets, p_row jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(p_session.companion_of = p_target.name and (p_row ->> 'owner' is null
    or p_session.owner_id = (p_row ->> 'owner')::uuid
    or p_session.owner_id is null and p_session.owner_token_hash is null), false);
$$;

-- Whether a caller may act for a team's row: its owner, or where it has none its companion's; the service always.
create or replace function lull.is_row_owner(
  p_target lull.targets, p_row jsonb, p_session lull.sessions, p_caller jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((p_caller ->> 'service')::boolean, false) or case
    when p_row ->> 'owner' is not null then coalesce(p_row ->> 'owner' = p_caller ->> 'user_id', false)
    else lull.is_companion(p_session, p_target, p_row)
      and lull.is_owner(p_session.owner_id, p_session.owner_token_hash, p_caller) end;
$$;

-- The places in which a session of the caller's with this id is: names of adopted tables, and lull.sessions for one of
-- the API's own or a companion whose row is not there. p_table looks at one place only; a name that is not adopted
-- raises 422.
create or replace function lull.own_places(p_id uuid, p_caller jsonb, p_table text default null)
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_session lull.sessions;
  v_target lull.targets;
  v_row jsonb;
  v_places text[] := '{}';
  v_has_row boolean := false;
begin
  if p_table is not null and p_table <> 'lull.sessions' then
    p_table := (lull.adopted_table(p_table)).name;
  end if;
  select * into v_session from lull.sessions where id = p_id;
  for v_target in
    select * from lull.targets
    where kind is not null and name in (coalesce(p_table, name), v_session.companion_of) order by name
  loop
    v_row := lull.read_own_row(v_target, p_id);
    continue when v_row is null;
    v_has_row := v_has_row or lull.is_companion(v_session, v_target, v_row);
    if v_target.name = coalesce(p_table, v_target.name) and lull.is_row_owner(v_target, v_row, v_session, p_caller) then
      v_places := v_places || v_target.name;
    end if;
  end loop;
  if v_session.id is not null and not v_has_row
    and lull.is_owner(v_session.owner_id, v_session.owner_token_hash, p_caller)
    and coalesce(p_table, 'lull.sessions') in ('lull.sessions', v_session.companion_of)
  then
    v_places := v_places || 'lull.sessions'::text;
  end if;
  return v_places;
end
$$;

-- The entry of an adopted table of sessions, by its name with or without `public.`; raises 404 when there is none.
create or replace function lull.adopted_table(p_table text)
returns lull.targets
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
begin
  select * into v_target from lull.targets where kind is not null and name in (p_table, 'public.' || p_table);
  if not found then
    perform lull.refuse(404, 'not-found', format('There is no adopted table "%s".', p_table));
  end if;
  return v_target;
end
$$;

-- The one place of a caller's session; null when there is none. Several are 409 with their names.
create or replace function lull.own_place(p_id uuid, p_caller jsonb, p_table text default null)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_places text[] := lull.own_places(p_id, p_caller, p_table);
begin
  if cardinality(v_places) > 1 then
    perform lull.refuse(409, 'ambiguous-session',
      format('Several sessions have this id. Say which with ?table=: %s. Nothing was changed.',
        array_to_string(v_places, ', ')),
      jsonb_build_object('tables', v_places)::text);
  end if;
  return v_places[1];
end
$$;

-- The companion of a row that the caller has locked: seen now, and locked too; null when there is none. An archived one
-- of the same owner comes back. p_make: `never` makes none; `may` makes one unless another session has the id; `must`
-- raises 409 then.
create or replace function lull.companion_of_row(p_target lull.targets, p_id uuid, p_row jsonb, p_make text)
returns lull.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_session lull.sessions := lull.lock_session(p_id);
begin
  if v_session.id is null then
    perform lull.bring_companion_back(p_target, p_id, p_row);
    -- Its clock is the row's: making it is no activity.
    insert into lull.sessions (id, kind, status, owner_id, companion_of, row_seen_at, created_at, last_activity_at)
    select p_id, p_target.kind, 'draft', (p_row ->> 'owner')::uuid, p_target.name, now(),
      coalesce((p_row ->> 'created_at')::timestamptz, now()),
      coalesce((p_row ->> 'last_activity_at')::timestamptz, now())
    where p_make <> 'never'
    on conflict (id) do nothing;
    v_session := lull.lock_session(p_id);
  end if;
  if not lull.is_companion(v_session, p_target, p_row) then
    if p_make = 'must' then
      perform lull.refuse(409, 'id-taken', format(
        'Another session has this id, so that this one of %s can have no files, participants or token. %s',
        p_target.name, 'Nothing was changed.'));
    end if;
    return null;
  end if;
  if v_session.row_seen_at is null or v_session.row_missing_since is not null then
    update lull.sessions set row_seen_at = coalesce(row_seen_at, now()), row_missing_since = null
    where id = p_id
    returning * into v_session;
  end if;
  return v_session;
end
$$;

-- Restore the archived companion of a row, if it is of the same owner; anything else that has the id stays archived.
create or replace function lull.bring_companion_back(p_target lull.targets, p_id uuid, p_row jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_not_its_own constant text := 'LU003';
  v_session lull.sessions;
begin
  if p_row ->> 'owner' is null then
    return;
  end if;
  begin
    if lull.restore_key('lull.sessions', p_id::text, jsonb_build_object('user_id', p_row -> 'owner')) is null then
      return;
    end if;
    v_session := lull.lock_session(p_id);
    if not lull.is_companion(v_session, p_target, p_row) then
      raise exception using errcode = c_not_its_own;
    end if;
  exception when sqlstate 'LU003' then
    null;
  end;
end
$$;

-- Append an event of a session in a team's table, as lull.append_event does for lull.sessions. The caller holds the
-- row's lock. Its broadcast goes to the topic session:{table}:{id}: ids of two tables may be the same.
create or replace function lull.append_row_event(
  p_target text, p_id uuid, p_kind text, p_event text, p_data jsonb default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event lull.session_events;
begin
  insert into lull.session_events (target, session_id, kind, event, data, request_id)
  values (p_target, p_id, p_kind, p_event, p_data, lull.request_id())
  returning * into v_event;
  perform lull.broadcast(v_event);
end
$$;
