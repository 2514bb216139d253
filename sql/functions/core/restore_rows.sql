-- Core, restore: rows get in, parents first; values that have to wait become updates (restore.sql has the entries).

-- Insert rows, parents first, then run the updates among them. Rows that cannot get in carry a reason afterwards;
-- entries that update rows are added for values that have to wait.
create or replace function lull.insert_archived(
  p_entries jsonb, p_rows lull.archived_row[], p_path text, out o_entries jsonb, out o_rows lull.archived_row[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_order integer[] := lull.restore_order(p_entries);
  v_n integer;
  v_done integer := 0;
  v_one record;
  v_part lull.archived_row[];
begin
  o_entries := p_entries;
  o_rows := array(select u from unnest(p_rows) u where p_entries -> (u.tab - 1) -> 'keys' <> 'null');
  foreach v_n in array v_order loop
    v_done := v_done + 1;
    v_part := lull.refuse_displaced(p_entries, o_rows, v_n, array(select u from unnest(p_rows) u where u.tab = v_n));
    select * into v_one from lull.insert_entry(o_entries, v_n, v_part, array(
      select p_entries -> (o - 1) ->> 'table' from unnest(v_order[v_done + 1:]) o), p_path);
    o_entries := v_one.o_entries;
    o_rows := o_rows || v_one.o_rows;
  end loop;
  for v_n in select n from jsonb_array_elements(o_entries) with ordinality e (entry, n) where entry -> 'keys' <> 'null'
  loop
    v_part := lull.update_entry(o_entries -> (v_n - 1),
      array(select u from unnest(o_rows) u where u.tab = v_n), p_path);
    o_rows := array(select u from unnest(o_rows) u where u.tab <> v_n) || v_part;
  end loop;
end
$$;

-- The order in which entries are inserted: a table after those that its foreign keys refer to. Where keys form a cycle,
-- the page's order decides.
create or replace function lull.restore_order(p_entries jsonb)
returns integer[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_order integer[] := '{}';
  v_left integer[];
  v_next integer;
  v_from integer[];
  v_to integer[];
begin
  select coalesce(array_agg(n order by n), '{}') into v_left
  from jsonb_array_elements(p_entries) with ordinality e (entry, n) where entry -> 'keys' = 'null';
  if cardinality(v_left) < 2 then
    return v_left;
  end if;
  with entry as materialized (
    select n::integer, to_regclass(e.entry ->> 'table')::oid as tab,
      lull.partition_family(to_regclass(e.entry ->> 'table')) as family
    from jsonb_array_elements(p_entries) with ordinality e (entry, n) where e.n = any (v_left)
  )
  select array_agg(a.n), array_agg(b.n) into v_from, v_to
  from entry a
  join pg_catalog.pg_constraint f on f.contype = 'f' and f.conparentid = 0 and f.conrelid = any (a.family)
  join entry b on b.tab <> a.tab and f.confrelid = any (b.family);
  while v_left <> '{}' loop
    select n into v_next from unnest(v_left) n
    order by exists (select 1 from unnest(v_from, v_to) k (a, b) where k.a = n and k.b = any (v_left)), n
    limit 1;
    v_order := v_order || v_next;
    v_left := array_remove(v_left, v_next);
  end loop;
  return v_order;
end
$$;

-- Insert the rows of one entry. p_later: tables that are inserted after it. Values of columns that the table has not
-- any more, links to later tables and links to rows that are still archived become entries that update.
create or replace function lull.insert_entry(
  p_entries jsonb, p_n integer, p_rows lull.archived_row[], p_later text[], p_path text,
  out o_entries jsonb, out o_rows lull.archived_row[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text := p_entries -> (p_n - 1) ->> 'table';
  v_table regclass := to_regclass(v_name);
  v_columns text[] := array(select jsonb_array_elements_text(p_entries -> (p_n - 1) -> 'columns'));
  v_key text[];
  v_lost text[];
  v_reason text;
  v_wait record;
begin
  o_entries := p_entries;
  o_rows := p_rows;
  if v_table is null or (select relkind not in ('r', 'p') from pg_catalog.pg_class where oid = v_table) then
    o_rows := lull.refuse_rows(p_rows, null, format('the table %s does not exist', v_name));
    return;
  end if;
  v_key := lull.row_key(v_table);
  if not v_key <@ v_columns then
    v_key := null;  -- a key that the rows were archived without: nothing finds them again
  end if;
  v_lost := array(
    select c from unnest(v_columns) c
    where not exists (select 1 from lull.table_columns(v_table) t where t.name = c)
      and exists (select 1 from unnest(p_rows) u where u.cells[array_position(v_columns, c)] is not null));
  v_reason := format('the column %s of %s does not exist', array_to_string(v_lost, ', '), v_name);
  if v_lost <> '{}' and v_key is null then
    o_rows := lull.refuse_rows(o_rows, array(
      select u.n::integer from unnest(o_rows) with ordinality u (tab, root, cells, reason, n)
      where u.tab = p_n and exists (
        select 1 from unnest(v_lost) c where u.cells[array_position(v_columns, c)] is not null)), v_reason);
  elsif v_lost <> '{}' then
    select * into v_wait from lull.put_off(o_entries, o_rows, p_n, v_key, v_lost, v_reason, null);
    o_entries := v_wait.o_entries; o_rows := v_wait.o_rows;
  end if;
  select * into v_wait from lull.check_links(o_entries, o_rows, p_n, v_table, v_columns, v_key, p_later);
  o_entries := v_wait.o_entries; o_rows := v_wait.o_rows;
  o_rows := array(select u from unnest(o_rows) u where u.tab <> p_n) || lull.run_rows(
    lull.insert_statement(v_table, v_columns), p_path,
    lull.refuse_taken(v_table, v_columns, array(select u from unnest(o_rows) u where u.tab = p_n)));
  o_rows := lull.follow_refused(o_entries, o_rows, p_n, v_key);
  perform lull.move_sequences(v_table, v_columns, array(select u from unnest(o_rows) u where u.tab = p_n));
end
$$;

-- The values of some columns among the cells of a row.
create or replace function lull.cells_of(p_entry jsonb, p_cells text[], p_columns text[])
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select p_cells[p.n] from unnest(p_columns) with ordinality c (name, i)
    join jsonb_array_elements_text(p_entry -> 'columns') with ordinality p (name, n) on p.name = c.name
    order by c.i);
$$;

-- The columns by which a row can be found again: the primary key, or another unique key that has no nulls; null: none.
create or replace function lull.row_key(p_table regclass)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(lull.unique_key(p_table, null), (
    select array_agg(a.attname::text order by x.n)
    from (
      select i.indrelid, i.indkey, i.indnkeyatts from pg_catalog.pg_index i
      where i.indrelid = p_table and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null
        and i.indexprs is null and not exists (
          select 1 from unnest(i.indkey[0:i.indnkeyatts - 1]) k (attnum)
          join pg_catalog.pg_attribute n on n.attrelid = i.indrelid and n.attnum = k.attnum and not n.attnotnull)
      order by i.indexrelid limit 1
    ) i
    cross join lateral unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality x (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = x.attnum));
$$;

-- Refuse rows: those at some places, or all, for a reason. A reason that a row has already stays.
create or replace function lull.refuse_rows(p_rows lull.archived_row[], p_places integer[], p_reason text)
returns lull.archived_row[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(row(u.tab, u.root, u.cells, case
    when p_places is null or u.n = any (p_places) then coalesce(u.reason, p_reason)
    else u.reason end)::lull.archived_row order by u.n), '{}')
  from unnest(p_rows) with ordinality u (tab, root, cells, reason, n);
$$;

-- Put off some columns of rows (those at p_places, or all that have a value there): an entry is added that updates them
-- later, found by p_key, and the rows are inserted with null. p_reason: why they have to wait beyond this restore.
create or replace function lull.put_off(
  p_entries jsonb, p_rows lull.archived_row[], p_n integer, p_key text[], p_columns text[], p_reason text,
  p_places integer[], out o_entries jsonb, out o_rows lull.archived_row[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entry jsonb := p_entries -> (p_n - 1);
  v_columns text[] := array(select jsonb_array_elements_text(p_entries -> (p_n - 1) -> 'columns'));
  v_new integer := jsonb_array_length(p_entries) + 1;
  v_put lull.archived_row[];
begin
  o_entries := p_entries || jsonb_build_array(jsonb_build_object(
    'table', v_entry -> 'table', 'columns', p_key || p_columns, 'keys', p_key));
  select coalesce(array_agg(row(v_new, u.root, lull.cells_of(v_entry, u.cells, p_key || p_columns), p_reason)
    ::lull.archived_row order by u.n), '{}')
  into v_put
  from unnest(p_rows) with ordinality u (tab, root, cells, reason, n)
  where u.tab = p_n and u.reason is null and (p_places is null or u.n = any (p_places))
    and exists (select 1 from unnest(p_columns) c where u.cells[array_position(v_columns, c)] is not null);
  select coalesce(array_agg(row(u.tab, u.root, case
      when u.tab = p_n and u.reason is null and (p_places is null or u.n = any (p_places))
      then array(select case when v_columns[c.i] = any (p_columns) then null else c.cell end
        from unnest(u.cells) with ordinality c (cell, i) order by c.i)
      else u.cells end, u.reason)::lull.archived_row order by u.n), '{}')
  into o_rows
  from unnest(p_rows) with ordinality u (tab, root, cells, reason, n);
  o_rows := o_rows || v_put;
end
$$;

-- An update of a row that is not back waits with it, without a reason of its own ('').
create or replace function lull.follow_refused(
  p_entries jsonb, p_rows lull.archived_row[], p_n integer, p_key text[])
returns lull.archived_row[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  with refused as materialized (
    select u.root, lull.cells_of(p_entries -> (p_n - 1), u.cells, p_key) as key
    from unnest(p_rows) u where u.tab = p_n and u.reason is not null and p_key is not null
  )
  select coalesce(array_agg(row(u.tab, u.root, u.cells, case
      when exists (select 1 from refused) and u.tab <> p_n
        and p_entries -> (u.tab - 1) -> 'table' = p_entries -> (p_n - 1) -> 'table' and exists (
          select 1 from refused r where r.root = u.root
            and r.key = lull.cells_of(p_entries -> (u.tab - 1), u.cells, p_key)) then ''
      else u.reason end)::lull.archived_row order by u.n), '{}')
  from unnest(p_rows) with ordinality u (tab, root, cells, reason, n);
$$;
