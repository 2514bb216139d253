-- Core: what a transition writes into a team's row: one statement, under the row's lock and the team's search path.

-- Write a status, a first message and the clock into a team's row that the caller has locked. Raises 409 when the
-- adoption names no value for the status, and when a constraint or trigger of the table's refuses, with its name: then
-- nothing is written. Returns the row as read_own_row does.
create or replace function lull.write_own_row(
  p_target lull.targets, p_id uuid, p_row jsonb, p_status text, p_owner uuid default null)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_state text;
  v_message text;
  v_constraint text;
  v_context text;
  v_new jsonb;
begin
  perform lull.refuse_unnamed_status(p_target, p_row, p_status);
  begin
    v_new := lull.run_in_path(p_target.search_path, lull.write_statement(p_target, p_status, p_owner), p_id,
      lull.deferrable_names(p_target.name, false), lull.deferrable_names(p_target.name, true));
  exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_constraint = constraint_name,
      v_context = pg_exception_context;
    if left(v_state, 2) in ('40', '53', '55', '57', '58', 'XX') then
      raise;
    end if;
    perform lull.refused_by_table(p_target.name, v_message, nullif(v_constraint, ''), v_context);
  end;
  if v_new is null then
    perform lull.refused_by_table(p_target.name, 'a trigger or rule of it swallowed the update', null, '');
  elsif p_status is not null and v_new ->> 'status' <> p_status then
    perform lull.refused_by_table(p_target.name,
      format('a trigger of it made the status "%s"', v_new ->> 'value'), null, '');
  end if;
  return v_new;
end
$$;

-- Raise 409 when the adoption names nothing that could hold this status.
create or replace function lull.refuse_unnamed_status(p_target lull.targets, p_row jsonb, p_status text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_status is null
    or p_target.status_column is not null and jsonb_array_length(p_target.statuses -> p_status) > 0
    or p_target.status_column is null and p_status = 'active'
      and (p_target.first_message_column is not null or p_row ->> 'status' = 'active')
  then
    return;
  end if;
  perform lull.refuse(409, 'status-not-named',
    format('The adoption of %s names no value for the status "%s". Nothing was changed.', p_target.name, p_status),
    jsonb_build_object('currentStatus', p_row -> 'status', 'table', p_target.name)::text);
end
$$;

-- The update of a transition: $1 is the key. The clock only moves forward; the first message is written once.
create or replace function lull.write_statement(p_target lull.targets, p_status text, p_owner uuid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('update %s t set %s where t.%I operator(pg_catalog.=) $1 returning %s', p_target.name,
    (select string_agg(format('%I = %s', x.name, x.value), ', ') from (
      select p_target.status_column as name, format('%L::%s', p_target.statuses -> p_status ->> 0, (
        select pg_catalog.format_type(a.atttypid, -1) from pg_catalog.pg_attribute a
        where a.attrelid = to_regclass(p_target.name) and a.attname = p_target.status_column)) as value
      where p_status is not null and p_target.status_column is not null
      union all
      select p_target.first_message_column, format('coalesce(t.%I, pg_catalog.now())', p_target.first_message_column)
      where p_status = 'active' and p_target.first_message_column is not null
      union all
      select p_target.owner_column, format('%L::pg_catalog.uuid', p_owner)
      where p_owner is not null and p_target.owner_column is not null
      union all
      select p_target.clock_column, format('greatest(t.%I, pg_catalog.now())', p_target.clock_column)
      where p_target.clock_column is not null
    ) x),
    p_target.key_columns[1], lull.own_row_expression(p_target));
$$;

-- Run a statement on a row under a team's search path; it returns one jsonb. Constraints that the statement may leave
-- to the commit are checked at its end, by name, and set back. The path ends with this function.
create or replace function lull.run_in_path(
  p_path text, p_statement text, p_id uuid, p_deferrable text, p_deferred text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_answer jsonb;
begin
  perform pg_catalog.set_config('search_path', p_path, true);
  execute p_statement into v_answer using p_id;
  if p_deferrable is not null then
    execute 'set constraints ' operator(pg_catalog.||) p_deferrable operator(pg_catalog.||) ' immediate';
    if p_deferred is not null then
      execute 'set constraints ' operator(pg_catalog.||) p_deferred operator(pg_catalog.||) ' deferred';
    end if;
  end if;
  return v_answer;
end
$$;

-- The deferrable constraints of a table, as SET CONSTRAINTS takes them (or those that begin deferred); null: none.
create or replace function lull.deferrable_names(p_table text, p_deferred boolean)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(distinct format('%s.%I', c.connamespace::regnamespace, c.conname), ', ')
  from pg_catalog.pg_constraint c
  where c.conrelid = to_regclass(p_table) and c.condeferrable and (c.condeferred or not p_deferred);
$$;

-- Raise the 409 of a team's table that refuses what a transition writes. The trigger is found by its function in the
-- error's context.
create or replace function lull.refused_by_table(p_table text, p_message text, p_constraint text, p_context text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_trigger text;
begin
  if p_constraint is null then
    select t.tgname into v_trigger
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = to_regclass(p_table) and not t.tgisinternal
      and p_context ~ ('function (\S+\.)?' || regexp_replace(p.proname, '(\W)', '\\\1', 'g') || '\(')
    order by t.tgname
    limit 1;
  end if;
  perform lull.refuse(409, 'refused-by-table',
    format('%s refuses it%s: %s. Nothing was changed.', p_table,
      coalesce(format(' (constraint %s)', p_constraint), format(' (trigger %s)', v_trigger), ''),
      rtrim(p_message, '.')),
    jsonb_strip_nulls(jsonb_build_object('table', p_table, 'constraint', p_constraint, 'trigger', v_trigger))::text);
end
$$;
