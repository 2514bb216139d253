-- Core, restore: the statements that bring rows of one table in, and what becomes of those that cannot.

-- Refuse rows that cannot get in: a value of a unique key is taken, or a column that must not be null is.
create or replace function lull.refuse_taken(p_table regclass, p_columns text[], p_rows lull.archived_row[])
returns lull.archived_row[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_rows lull.archived_row[] := p_rows;
  v_check record;
  v_places integer[];
begin
  for v_check in
    select n.reason, n.condition from lull.null_conditions(p_table, p_columns) n
    where lull.any_row(p_rows, (select string_agg(condition, ' or ') from lull.null_conditions(p_table, p_columns)))
    union all
    select 'a row with one of its unique values is there already', format(
      'exists (select 1 from %s t where %s)', p_table, string_agg(format(
        't.%I %s u.cells[%s]::%s%s', a.attname, lull.equality(a.atttypid::regtype),
        array_position(p_columns, a.attname::text), pg_catalog.format_type(a.atttypid, -1),
        lull.collate_as(p_table, a.attname::text)), ' and '))
    from pg_catalog.pg_index i
    cross join lateral unnest(i.indkey[0:i.indnkeyatts - 1]) k (attnum)
    left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = p_table and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
    group by i.indexrelid
    having bool_and(a.attname = any (p_columns) and a.attgenerated = '')
  loop
    begin
      execute format(
        'select array_agg(u.n::integer) from unnest($1::lull.archived_row[]) with ordinality
           u (tab, root, cells, reason, n) where u.reason is null and %s', v_check.condition)
      into v_places using v_rows;
    exception when others then
      continue;
    end;
    if v_places is not null then
      v_rows := lull.refuse_rows(v_rows, v_places, v_check.reason);
    end if;
  end loop;
  return v_rows;
end
$$;

-- The conditions under which a row u has no value in a column that must have one, with the reason.
create or replace function lull.null_conditions(p_table regclass, p_columns text[])
returns table (reason text, condition text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('the column %s of %s must not be null', a.attname, p_table), case
    when a.attname = any (p_columns) then format('u.cells[%s] is null', array_position(p_columns, a.attname::text))
    else 'true' end
  from pg_catalog.pg_attribute a
  where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attnotnull and a.attgenerated = ''
    and a.attidentity = '' and (a.attname = any (p_columns) or not a.atthasdef);
$$;

-- Whether a condition is true of one of the rows at least: one pass, where most restores need no more.
create or replace function lull.any_row(p_rows lull.archived_row[], p_condition text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_any boolean;
begin
  execute format('select exists (select 1 from unnest($1) u where u.reason is null and (%s))',
    coalesce(p_condition, 'false'))
  into v_any using p_rows;
  return v_any;
end
$$;

-- The statement that inserts rows ($1) into a table: the columns that it has today and the rows hold, generated ones
-- left out, identity values kept. A session of Lull's is as old as this moment at once: an update behind the insert
-- would write its row and its index entries twice.
create or replace function lull.insert_statement(p_table regclass, p_columns text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'insert into %s (%s) overriding system value select %s from pg_catalog.unnest($1::lull.archived_row[]) u',
    p_table, string_agg(format('%I', c.name), ', ' order by c.n),
    string_agg(format(case
        when p_table = 'lull.sessions'::regclass and c.name = 'last_activity_at' then 'greatest(u.cells[%s]::%s, now())'
        else 'u.cells[%s]::%s' end, array_position(p_columns, c.name), c.type), ', ' order by c.n))
  from lull.table_columns(p_table) with ordinality c (name, type, is_generated, keeps_blanks, n)
  where c.name = any (p_columns) and not c.is_generated;
$$;

-- Run a statement over rows; where it fails, over each half of them, until those that cannot are alone: they carry the
-- reason afterwards. Rows that refer to one another are tried again as long as others get in.
create or replace function lull.run_rows(p_statement text, p_path text, p_rows lull.archived_row[])
returns lull.archived_row[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_refused lull.archived_row[] := array(select u from unnest(p_rows) u where u.reason is not null);
  v_todo lull.archived_row[] := array(select u from unnest(p_rows) u where u.reason is null);
  v_done lull.archived_row[] := '{}';
  v_tried lull.archived_row[];
begin
  while v_todo <> '{}' loop
    v_tried := lull.run_halves(p_statement, p_path, v_todo);
    v_done := v_done || array(select u from unnest(v_tried) u where u.reason is null);
    v_tried := array(select u from unnest(v_tried) u where u.reason is not null);
    if v_tried = '{}' or cardinality(v_tried) = cardinality(v_todo) then
      return v_done || v_refused || v_tried;
    end if;
    v_todo := array(select row(u.tab, u.root, u.cells, null)::lull.archived_row from unnest(v_tried) u);
  end loop;
  return v_done || v_refused;
end
$$;

-- One try of run_rows: all at once, else by halves.
create or replace function lull.run_halves(p_statement text, p_path text, p_rows lull.archived_row[])
returns lull.archived_row[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_half integer := cardinality(p_rows) / 2;
begin
  begin
    if lull.run_rows_for_team(p_path, p_statement, p_rows) <> cardinality(p_rows) then
      raise exception 'a trigger or a rule keeps it out';
    end if;
    return p_rows;
  exception when others then
    if sqlstate in ('40001', '40P01', '55P03', '57014') then
      raise;
    end if;
    perform set_config('lull.restore_undone', clock_timestamp()::text, true);
    if cardinality(p_rows) = 1 then
      return lull.refuse_rows(p_rows, null, sqlerrm);
    end if;
  end;
  return lull.run_halves(p_statement, p_path, p_rows[:v_half])
    || lull.run_halves(p_statement, p_path, p_rows[v_half + 1:]);
end
$$;

-- Run the updates of one entry.
create or replace function lull.update_entry(p_entry jsonb, p_rows lull.archived_row[], p_path text)
returns lull.archived_row[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass := to_regclass(p_entry ->> 'table');
  v_missing text;
begin
  select string_agg(c, ', ') into v_missing from jsonb_array_elements_text(p_entry -> 'columns') c
  where v_table is null or not exists (select 1 from lull.table_columns(v_table) t where t.name = c);
  if v_missing is not null then
    return lull.refuse_rows(p_rows, null, case when v_table is null then format('the table %s does not exist',
      p_entry ->> 'table') else format('the column %s of %s does not exist', v_missing, v_table) end);
  end if;
  return lull.run_rows(lull.update_statement(v_table, array(select jsonb_array_elements_text(p_entry -> 'columns')),
    array(select jsonb_array_elements_text(p_entry -> 'keys'))), p_path, p_rows);
end
$$;

-- The statement that gives rows of a table, found by their keys, the values of other columns.
create or replace function lull.update_statement(p_table regclass, p_columns text[], p_keys text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('update %s t set %s from pg_catalog.unnest($1::lull.archived_row[]) u where %s', p_table,
    string_agg(format('%I = u.cells[%s]::%s', c.name, array_position(p_columns, c.name), c.type), ', ')
      filter (where c.name <> all (p_keys)),
    string_agg(format('t.%I %s u.cells[%s]::%s%s', c.name, lull.equality(c.type::regtype),
      array_position(p_columns, c.name), c.type, lull.collate_as(p_table, c.name)), ' and ')
      filter (where c.name = any (p_keys)))
  from lull.table_columns(p_table) c
  where c.name = any (p_columns) and not c.is_generated or c.name = any (p_keys);
$$;

-- Move the sequences of identity and serial columns behind the values that came back, never back.
create or replace function lull.move_sequences(p_table regclass, p_columns text[], p_rows lull.archived_row[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_column record;
  v_last bigint;
  v_highest bigint;
begin
  for v_column in
    select a.attname, pg_get_serial_sequence(p_table::text, a.attname) as sequence, s.seqincrement
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_sequence s on s.seqrelid = pg_get_serial_sequence(p_table::text, a.attname)::regclass
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attname = any (p_columns)
      and (a.attidentity <> '' or a.atthasdef)
  loop
    select case when v_column.seqincrement > 0 then max(x.value) else min(x.value) end into v_highest
    from (
      select u.cells[array_position(p_columns, v_column.attname::text)]::bigint as value
      from unnest(p_rows) u where u.reason is null
    ) x;
    execute format('select last_value from %s', v_column.sequence) into v_last;
    if v_highest is not null and (v_highest - v_last) * sign(v_column.seqincrement) > 0 then
      perform setval(v_column.sequence::regclass, v_highest);
    end if;
  end loop;
end
$$;
