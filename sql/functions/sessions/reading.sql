-- Sessions, reading: one, the caller's own, a session's events. Nothing here writes or locks.

-- One session of the caller's; the service sees a game's state, too. Raises 404 or 410, and 409 where several have the
-- id and p_caller names no table.
create or replace function public.lull_get_session(p_session uuid, p_caller jsonb)
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
  v_place text := lull.own_place(p_session, p_caller, p_caller ->> 'table');
  v_session lull.sessions;
begin
  if v_place is null then
    perform lull.no_such_session(p_session, p_caller);
  elsif v_place <> 'lull.sessions' then
    return jsonb_build_object('session', lull.read_row_session(v_place, p_session));
  end if;
  select * into v_session from lull.sessions where id = p_session;
  return jsonb_build_object('session',
    case when v_session.kind = 'game' and (p_caller ->> 'service')::boolean then lull.game_json(v_session)
      else lull.session_json(v_session) end);
end
$$;

-- A page of the caller's own sessions, newest first, after p_after ({"created_at", "id"} of the page before).
-- Adopted tables are included where an index begins with their owner. The service sees everything in lull.sessions, and
-- no adopted table. "where" of p_caller filters by {"external_key", "guild_id", "mode"}, which no adopted table has. A
-- page ends early where it would be too long (lull.fit_page). Returns {"sessions", "next": {"created_at", "id"} or
-- null}.
create or replace function public.lull_list_sessions(
  p_caller jsonb, p_kind text default null, p_status text default null, p_limit integer default 20,
  p_after jsonb default null)
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
  v_where jsonb := p_caller -> 'where';
  v_page jsonb;
  v_last jsonb;
  v_found integer;
begin
  execute format(
    'select coalesce(jsonb_agg(case p.place when ''lull.sessions'' then lull.session_json(s)
        else lull.read_row_session(p.place, p.id) end order by p.created_at desc, p.id desc), ''[]'')
     from (select * from (%s) u order by created_at desc, id desc limit $5 + 1) p
     left join lull.sessions s on s.id = p.id and p.place = ''lull.sessions''',
    lull.list_parts(p_caller))
  into v_page
  using (p_caller ->> 'user_id')::uuid, decode(p_caller ->> 'token_hash', 'hex'), p_kind, p_status, p_limit,
    (p_after ->> 'created_at')::timestamptz, (p_after ->> 'id')::uuid, v_where ->> 'external_key',
    v_where ->> 'guild_id', v_where ->> 'mode';
  v_found := jsonb_array_length(v_page);
  v_page := lull.fit_page(v_page, p_limit);
  if v_found > jsonb_array_length(v_page) then
    v_last := v_page -> -1;
  end if;
  return jsonb_build_object('sessions', v_page, 'next', case when v_last is not null then
    jsonb_build_object('created_at', v_last -> 'created_at', 'id', v_last -> 'id') end);
end
$$;

-- What a list reads, as SQL that yields (place, id, created_at): lull.sessions without the companions whose row is
-- there; of each adopted table the user's rows, and rows without an owner whose companion is the caller's. $1 user,
-- $2 token hash, $3 kind, $4 status, $5 limit, $6 and $7 the cursor.
create or replace function lull.list_parts(p_caller jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with mine (condition) as (
    select case
      when coalesce((p_caller ->> 'service')::boolean, false) then 'id is not null'
      when p_caller ->> 'user_id' is not null then 'owner_id = $1'
      else 'owner_token_hash = $2' end
  )
  select format(
      '(select ''lull.sessions'' as place, t.id, t.created_at from lull.sessions t
        where t.%s and ($3 is null or t.kind = $3) and ($4 is null or t.status = $4) and %s and %s
          and (t.companion_of is null or not %s)
        order by t.created_at desc, t.id desc limit $5 + 1)',
      m.condition, lull.where_expression(8), lull.after_expression('t.created_at', 't.id'), lull.has_row_expression())
    || coalesce((
      select string_agg(' union all ' || lull.table_part(g, 'lull.sessions c', format(
          'c.id = t.%I and c.%s and c.companion_of = %L and t.%I is null',
          g.key_columns[1], m.condition, g.name, g.owner_column))
        || ' union all ' || lull.table_part(g, null, format('t.%I = $1', g.owner_column)), '' order by g.name)
      from lull.targets g
      where m.condition <> 'id is not null' and g.kind is not null and lull.begins_an_index(g)), '')
  from mine m;
$$;

-- One part of a list: an adopted table, joined with another when p_with says so.
create or replace function lull.table_part(p_target lull.targets, p_with text, p_condition text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    '(select %1$L::text, t.%2$I, %3$s from %4$s where %5$s and ($3 is null or $3 = %6$L) and ($4 is null or $4 = %7$s)
        and num_nonnulls($8, $9, $10) = 0 and %8$s
      order by %3$s desc, t.%2$I desc limit $5 + 1)',
    p_target.name, p_target.key_columns[1], x.created, concat_ws(', ', p_target.name || ' t', p_with), p_condition,
    p_target.kind, lull.status_expression(p_target),
    lull.after_expression(x.created, format('t.%I', p_target.key_columns[1])))
  from (
    select format('coalesce(%s, %L::timestamptz)', lull.created_expression(p_target), p_target.adopted_at)
  ) x (created);
$$;

-- The filters by external key, guild and mode, as a condition on a session t. They are the parameters from $p_first on.
create or replace function lull.where_expression(p_first integer)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('($%1$s is null or t.%2$I = $%1$s)', p_first + n - 1, c), ' and ' order by n)
  from unnest('{external_key,guild_id,mode}'::text[]) with ordinality f (c, n);
$$;

-- How many sessions of lull.sessions there are, by status, of those that p_kind, p_status and p_where ("where"
-- of lull_list_sessions) leave. The statement is planned for the filters that are given, so that an index can serve.
-- Returns {"count", "by_status"}.
create or replace function public.lull_count_sessions(
  p_kind text default null, p_status text default null, p_where jsonb default null)
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
  v_counts jsonb;
begin
  execute format(
    'select coalesce(jsonb_object_agg(status, n), ''{}'') from (
       select t.status, count(*) as n from lull.sessions t
       where ($1 is null or t.kind = $1) and ($2 is null or t.status = $2) and %s
         and (t.companion_of is null or not %s)
       group by t.status) c', lull.where_expression(3), lull.has_row_expression())
  into v_counts
  using p_kind, p_status, p_where ->> 'external_key', p_where ->> 'guild_id', p_where ->> 'mode';
  return jsonb_build_object(
    'count', (select coalesce(sum(value::bigint), 0) from jsonb_each_text(v_counts)),
    'by_status', '{"draft": 0, "active": 0, "paused": 0, "ended": 0}'::jsonb || v_counts);
end
$$;

-- The condition of a page: behind the cursor $6 and $7, when there is one.
create or replace function lull.after_expression(p_created text, p_id text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('($6 is null or (%s, %s) < ($6, $7))', p_created, p_id);
$$;

-- Whether an index of a table begins with its owner column, and the mapping still fits the table.
create or replace function lull.begins_an_index(p_target lull.targets)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select not exists (select 1 from lull.column_faults(p_target)) and exists (
    select 1
    from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = to_regclass(p_target.name) and i.indisvalid and i.indpred is null
      and a.attname = p_target.owner_column);
$$;

-- A session's events behind p_after, oldest first; without the ids of runs, which are the operator's. They are appended
-- under the session's lock, so their order is the order of what happened. Returns {"events": [{"id", "event", "at",
-- "data"}], "more"}.
create or replace function public.lull_session_events(
  p_session uuid, p_caller jsonb, p_after bigint default 0, p_limit integer default 100)
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
  v_place text := lull.own_place(p_session, p_caller, p_caller ->> 'table');
  v_events jsonb;
  v_page jsonb;
begin
  if v_place is null then
    perform lull.no_such_session(p_session, p_caller);
  end if;
  select coalesce(jsonb_agg(
      jsonb_build_object('id', e.id, 'event', e.event, 'at', e.at, 'data', e.data - 'run') order by e.id),
    '[]')
  into v_events
  from (
    select * from lull.session_events
    where session_id = p_session and id > p_after and case
      when v_place = 'lull.sessions' then target is null
      else target = v_place or target is null and lull.has_companion(v_place, p_session) end
    order by id
    limit p_limit + 1
  ) e;
  v_page := lull.fit_page(v_events, p_limit);
  return jsonb_build_object(
    'events', v_page, 'more', jsonb_array_length(v_events) > jsonb_array_length(v_page));
end
$$;

-- Whether the row of a table with this id has a companion.
create or replace function lull.has_companion(p_table text, p_id uuid)
returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select lull.is_companion(s, g, lull.read_own_row(g, p_id))
    from lull.sessions s
    join lull.targets g on g.name = p_table
    where s.id = p_id), false);
$$;
