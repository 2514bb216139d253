-- Core, restore: what a team's triggers did to rows on their way in.

-- Compare rows that came back with the archive where a team's triggers run, and set right what they changed on the way
-- in. Returns what stays changed, a sentence a column. Values that were put off are not compared.
create or replace function lull.set_right(p_entries jsonb, p_rows lull.archived_row[], p_path text)
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry record;
  v_changed lull.archived_row[];
  v_columns text[];
  v_notes text[] := '{}';
begin
  if not lull.has_team_triggers(array(
    select l from jsonb_array_elements(p_entries) e, unnest(lull.leaf_tables(to_regclass(e ->> 'table'))) l))
  then
    return '{}';
  end if;
  for v_entry in
    select e.n::integer as n, to_regclass(e.entry ->> 'table') as tab,
      lull.row_key(to_regclass(e.entry ->> 'table')) as key,
      array(select jsonb_array_elements_text(e.entry -> 'columns')) as columns, array(
        select c from jsonb_array_elements(p_entries) o, jsonb_array_elements_text(o -> 'columns') c
        where o -> 'keys' <> 'null' and o -> 'table' = e.entry -> 'table') as put_off
    from jsonb_array_elements(p_entries) with ordinality e (entry, n)
    where e.entry -> 'keys' = 'null' and to_regclass(e.entry ->> 'table') is not null
  loop
    continue when v_entry.key is null or not v_entry.key <@ v_entry.columns;
    v_columns := array(
      select c.name from lull.table_columns(v_entry.tab) c
      where c.name = any (v_entry.columns) and not c.is_generated
        and (c.name <> all (v_entry.put_off) or c.name = any (v_entry.key)));
    v_changed := lull.changed_rows(v_entry.tab, v_entry.columns, v_entry.key, v_columns,
      array(select u from unnest(p_rows) u where u.tab = v_entry.n and u.reason is null));
    continue when v_changed = '{}' or v_columns <@ v_entry.key;
    v_changed := lull.run_rows(lull.update_statement(v_entry.tab, v_columns, v_entry.key), p_path, array(
      select row(u.tab, u.root, lull.cells_of(p_entries -> (v_entry.n - 1), u.cells, v_columns),
        null)::lull.archived_row
      from unnest(v_changed) u));
    v_changed := lull.changed_rows(v_entry.tab, v_columns, v_entry.key, v_columns, array(
      select row(u.tab, u.root, u.cells, null)::lull.archived_row from unnest(v_changed) u));
    if v_changed <> '{}' then
      v_notes := v_notes || format('a trigger of %s changed %s rows on their way in', v_entry.tab,
        cardinality(v_changed));
    end if;
  end loop;
  return v_notes;
end
$$;

-- How many rows this transaction inserted so far, by table: those of entries and what refers to them. Empty where no
-- trigger of a team's runs. Postgres counts attempts that were undone as well: `undone` says how many there were.
create or replace function lull.rows_inserted(p_entries jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with entry as materialized (
    select distinct l as leaf
    from jsonb_array_elements(p_entries) e, unnest(lull.leaf_tables(to_regclass(e ->> 'table'))) l
    where e -> 'keys' = 'null' and l is not null
  ), watched as (
    select leaf from entry
    union
    select l from entry e, pg_catalog.pg_constraint f, unnest(lull.leaf_tables(f.conrelid)) l
    where f.contype = 'f' and f.confrelid = e.leaf
  )
  select jsonb_build_object('undone', coalesce(current_setting('lull.restore_undone', true), ''), 'tables',
    coalesce(jsonb_object_agg(leaf::text, pg_stat_get_xact_tuples_inserted(leaf)), '{}'))
  from watched
  where lull.has_team_triggers(array(select leaf from entry));
$$;

-- Name the rows that a team's triggers added while rows came back, a sentence a table. p_before: lull.rows_inserted
-- before. Where an attempt was undone in between, the counters prove nothing.
create or replace function lull.rows_added(p_entries jsonb, p_rows lull.archived_row[], p_before jsonb)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with back as (
    select u.tab, count(*) as rows from unnest(p_rows) u where u.reason is null group by u.tab
  ), family as (
    select coalesce(pg_partition_root(t.leaf::oid), t.leaf::oid)::oid as tab,
      sum(t.inserted::bigint - coalesce((p_before -> 'tables' ->> t.leaf)::bigint, 0)) as inserted
    from jsonb_each_text(lull.rows_inserted(p_entries) -> 'tables') t (leaf, inserted)
    group by 1
  )
  select coalesce(array_agg(
    format('triggers added %s rows to %s', f.inserted - x.rows, f.tab::regclass) order by f.tab), '{}')
  from family f
  cross join lateral (
    select coalesce(sum(b.rows), 0) as rows
    from jsonb_array_elements(p_entries) with ordinality e (entry, n)
    join back b on b.tab = e.n
    cross join lateral (select to_regclass(e.entry ->> 'table') as tab) r
    where e.entry -> 'keys' = 'null' and coalesce(pg_partition_root(r.tab), r.tab) = f.tab
  ) x
  where f.inserted > x.rows and p_before ->> 'undone' = coalesce(current_setting('lull.restore_undone', true), '');
$$;

-- Of rows that came back, those that differ from the archive in one of these columns.
create or replace function lull.changed_rows(
  p_table regclass, p_columns text[], p_key text[], p_compared text[], p_rows lull.archived_row[])
returns lull.archived_row[]
language plpgsql
set search_path = pg_catalog, pg_temp
set extra_float_digits = '1'
set bytea_output = 'hex'
as $$
declare
  v_rows lull.archived_row[];
begin
  execute format(
    'select coalesce(array_agg(u), ''{}'') from unnest($1::lull.archived_row[]) u
     where not exists (
       select 1 from %s t
       where %s and (array[%s]::text[] collate "C") is not distinct from (array[%s]::text[] collate "C"))', p_table,
    (select string_agg(format('t.%I %s u.cells[%s]::%s%s', c.name, lull.equality(c.type::regtype),
        array_position(p_columns, c.name), c.type, lull.collate_as(p_table, c.name)), ' and ')
      from lull.table_columns(p_table) c where c.name = any (p_key)),
    (select string_agg(lull.text_form('t', c.name, c.keeps_blanks), ', ' order by c.name)
      from lull.table_columns(p_table) c where c.name = any (p_compared)),
    (select string_agg(format('u.cells[%s]', array_position(p_columns, c.name)), ', ' order by c.name)
      from lull.table_columns(p_table) c where c.name = any (p_compared)))
  into v_rows using p_rows;
  return v_rows;
end
$$;
