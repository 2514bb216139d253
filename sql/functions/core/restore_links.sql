-- Core, restore: the foreign keys of rows, before they get in.

-- Check the foreign keys of rows before they are inserted. A key to a table that comes later is put off, unless it can
-- be deferred; one to a row that is still archived waits for it where it may be null; a row whose parent is not there
-- is refused. What a key of a table to itself refers to may be among the rows: else it waits where it may be null, and
-- is left to the insert where not.
create or replace function lull.check_links(
  p_entries jsonb, p_rows lull.archived_row[], p_n integer, p_table regclass, p_columns text[], p_key text[],
  p_later text[], out o_entries jsonb, out o_rows lull.archived_row[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_later oid[] := array(select unnest(lull.partition_family(to_regclass(l))) from unnest(p_later) l);
  v_fkey record;
  v_missing integer[];
  v_archived integer[];
  v_wait record;
begin
  o_entries := p_entries; o_rows := p_rows;
  for v_fkey in select * from lull.outgoing_keys(p_table, p_columns) loop
    if v_fkey.parent = any (v_later) then
      if not v_fkey.is_deferrable and v_fkey.nullable <> '{}' and p_key is not null then
        select * into v_wait from lull.put_off(o_entries, o_rows, p_n, p_key, v_fkey.nullable, null, null);
        o_entries := v_wait.o_entries; o_rows := v_wait.o_rows;
      end if;
      continue;
    end if;
    begin
      execute v_fkey.missing_statement into v_missing using o_rows, p_n;
    exception when others then
      continue;  -- a value that does not fit the type any more: the insert says so
    end;
    continue when v_missing is null;
    v_archived := case when v_fkey.nullable <> '{}' and p_key is not null
      then lull.archived_parents(v_fkey.constraint_oid, o_rows, v_missing, p_columns) else '{}' end;
    if v_archived <> '{}' then
      select * into v_wait from lull.put_off(o_entries, o_rows, p_n, p_key, v_fkey.nullable,
        format('the row of %s that it refers to is archived', v_fkey.parent::regclass), v_archived);
      o_entries := v_wait.o_entries; o_rows := v_wait.o_rows;
    end if;
    v_missing := array(select m from unnest(v_missing) m where m <> all (v_archived));
    if v_missing <> '{}' and v_fkey.is_own then
      continue when v_fkey.nullable = '{}' or p_key is null;
      select * into v_wait from lull.put_off(o_entries, o_rows, p_n, p_key, v_fkey.nullable,
        format('the row of %s that it refers to does not exist', v_fkey.parent::regclass), v_missing);
      o_entries := v_wait.o_entries; o_rows := v_wait.o_rows;
    elsif v_missing <> '{}' then
      o_rows := lull.refuse_rows(o_rows, v_missing,
        format('the row of %s that it refers to does not exist', v_fkey.parent::regclass));
    end if;
  end loop;
end
$$;

-- Refuse rows of one entry that refer to a row of their own root which could not come back, unless a row with its key
-- is there: the values they refer to may be those of another row now, which they do not belong to. p_before: the rows
-- of the entries before it.
create or replace function lull.refuse_displaced(
  p_entries jsonb, p_before lull.archived_row[], p_n integer, p_rows lull.archived_row[])
returns lull.archived_row[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass := to_regclass(p_entries -> (p_n - 1) ->> 'table');
  v_columns text[] := array(select jsonb_array_elements_text(p_entries -> (p_n - 1) -> 'columns'));
  v_refused lull.archived_row[] := array(
    select u from unnest(p_before) u
    where u.reason is not null and p_entries -> (u.tab - 1) -> 'keys' = 'null');
  v_rows lull.archived_row[] := p_rows;
  v_key record;
  v_places integer[];
begin
  if v_refused = '{}' or v_table is null then
    return p_rows;
  end if;
  for v_key in
    select f.confrelid::regclass as parent, e.n, lull.key_among(f.oid, v_columns, c.names) as match,
      coalesce(lull.same_row(f.oid, v_columns, c.names), 'false') as same
    from pg_catalog.pg_constraint f
    join jsonb_array_elements(p_entries) with ordinality e (entry, n) on e.entry -> 'keys' = 'null'
      and to_regclass(e.entry ->> 'table') = any (lull.partition_family(f.confrelid))
    cross join lateral (select array(select jsonb_array_elements_text(e.entry -> 'columns')) as names) c
    where f.contype = 'f' and f.conparentid = 0 and f.conrelid = any (lull.partition_family(v_table))
      and exists (select 1 from unnest(v_refused) r where r.tab = e.n)
  loop
    continue when v_key.match is null;
    begin
      execute format('select array_agg(u.n::integer) from unnest($1::lull.archived_row[]) with ordinality
        u (tab, root, cells, reason, n) where u.reason is null and exists (
          select 1 from unnest($2::lull.archived_row[]) p
          where p.tab = $3 and p.root = u.root and %s and not exists (select 1 from %s t where %s))',
        v_key.match, v_key.parent, v_key.same)
      into v_places using v_rows, v_refused, v_key.n;
    exception when others then
      continue;  -- a value that does not fit the type any more: the insert says so
    end;
    if v_places is not null then
      v_rows := lull.refuse_rows(v_rows, v_places,
        format('the row of %s that it refers to does not exist', v_key.parent));
    end if;
  end loop;
  return v_rows;
end
$$;

-- The condition that row t has the key of archived row p and the values by which archived row u refers to it; null
-- where the archived rows have not all of these columns, or the table has no key.
create or replace function lull.same_row(p_constraint oid, p_columns text[], p_parent_columns text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(x.part, ' and ') from (
    select format('t.%I operator(%I.%s) u.cells[%s]::%s%s', a.attname, s.nspname, o.oprname,
      array_position(p_columns, b.attname::text), pg_catalog.format_type(b.atttypid, -1),
      lull.collate_as(f.confrelid, a.attname::text)) as part
    from pg_catalog.pg_constraint f
    cross join unnest(f.confkey, f.conkey, f.conpfeqop) k (pk, fk, op)
    join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.pk
    join pg_catalog.pg_attribute b on b.attrelid = f.conrelid and b.attnum = k.fk
    join pg_catalog.pg_operator o on o.oid = k.op
    join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
    where f.oid = p_constraint
    union all
    select format('t.%I %s p.cells[%s]::%s%s', a.attname, lull.equality(a.atttypid),
      array_position(p_parent_columns, a.attname::text), pg_catalog.format_type(a.atttypid, -1),
      lull.collate_as(f.confrelid, a.attname::text))
    from pg_catalog.pg_constraint f
    join pg_catalog.pg_attribute a on a.attrelid = f.confrelid
      and a.attname = any (lull.row_key(f.confrelid::regclass)::name[])
    where f.oid = p_constraint
  ) x
  having lull.row_key((select confrelid from pg_catalog.pg_constraint where oid = p_constraint)::regclass)
    <@ p_parent_columns;
$$;

-- The condition that archived row u refers by a foreign key to archived row p, whose columns are p_parent_columns; null
-- where one of them has not all columns of the key.
create or replace function lull.key_among(p_constraint oid, p_columns text[], p_parent_columns text[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when bool_and(a.attname = any (p_parent_columns) and b.attname = any (p_columns)) then
    string_agg(format('p.cells[%s]::%s operator(%I.%s) u.cells[%s]::%s%s',
      array_position(p_parent_columns, a.attname::text), pg_catalog.format_type(a.atttypid, -1), s.nspname, o.oprname,
      array_position(p_columns, b.attname::text), pg_catalog.format_type(b.atttypid, -1),
      lull.collate_as(f.confrelid, a.attname::text)), ' and ') end
  from pg_catalog.pg_constraint f
  cross join unnest(f.confkey, f.conkey, f.conpfeqop) k (pk, fk, op)
  join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.pk
  join pg_catalog.pg_attribute b on b.attrelid = f.conrelid and b.attnum = k.fk
  join pg_catalog.pg_operator o on o.oid = k.op
  join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
  where f.oid = p_constraint;
$$;

-- The foreign keys of a table over columns that rows have: the parent, whether that is the table itself, the columns
-- that may be null, and the statement that finds rows without a parent, there or among them ($1 rows, $2 their entry).
create or replace function lull.outgoing_keys(p_table regclass, p_columns text[])
returns table (
  constraint_oid oid, parent oid, is_own boolean, is_deferrable boolean, nullable text[], missing_statement text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select f.oid, f.confrelid, o.is_own, f.condeferrable, c.nullable, format(
    'select array_agg(u.n::integer) from unnest($1::lull.archived_row[]) with ordinality u (tab, root, cells, reason, n)
     where u.tab = $2 and u.reason is null and %s and not exists (select 1 from %s p where %s)%s',
    c.not_null, f.confrelid::regclass, c.match, case when o.is_own then format(
      ' and not exists (select 1 from unnest($1::lull.archived_row[]) p where p.tab = $2 and p.reason is null and %s)',
      c.among) else '' end)
  from pg_catalog.pg_constraint f
  cross join lateral (
    select coalesce(array_agg(b.attname::text) filter (where not b.attnotnull), '{}') as nullable,
      bool_and(b.attname = any (p_columns)) as is_there,
      string_agg(format('u.cells[%s] is not null', array_position(p_columns, b.attname::text)), ' and ') as not_null,
      string_agg(format('p.%I operator(%I.%s) u.cells[%s]::%s%s', a.attname, s.nspname, o.oprname,
        array_position(p_columns, b.attname::text), pg_catalog.format_type(b.atttypid, -1),
        lull.collate_as(f.confrelid, a.attname::text)), ' and ') as match,
      string_agg(format('p.cells[%s]::%s operator(%I.%s) u.cells[%s]::%s%s',
        coalesce(array_position(p_columns, a.attname::text), 0), pg_catalog.format_type(a.atttypid, -1), s.nspname,
        o.oprname, array_position(p_columns, b.attname::text), pg_catalog.format_type(b.atttypid, -1),
        lull.collate_as(f.confrelid, a.attname::text)), ' and ') as among
    from unnest(f.confkey, f.conkey, f.conpfeqop) k (pk, fk, op)
    join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.pk
    join pg_catalog.pg_attribute b on b.attrelid = f.conrelid and b.attnum = k.fk
    join pg_catalog.pg_operator o on o.oid = k.op
    join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
  ) c
  cross join lateral (select f.confrelid = any (lull.partition_family(p_table)) as is_own) o
  where f.contype = 'f' and f.conparentid = 0 and f.conrelid = p_table and c.is_there
    and coalesce((to_jsonb(f) ->> 'conenforced')::boolean, true);
$$;

-- Of rows whose parent by a foreign key is missing, those of which it is archived: the key refers to the key of a
-- target.
create or replace function lull.archived_parents(
  p_constraint oid, p_rows lull.archived_row[], p_places integer[], p_columns text[])
returns integer[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(u.n::integer), '{}')
  from unnest(p_rows) with ordinality u (tab, root, cells, reason, n)
  join lull.key_of_parent(p_constraint, p_columns) t on true
  where u.n = any (p_places) and exists (
    select 1 from lull.archive_keys k
    where k.target = t.target and k.key = case cardinality(t.places)
        when 1 then u.cells[t.places[1]]
        else (select jsonb_agg(u.cells[x] order by i)::text from unnest(t.places) with ordinality y (x, i)) end
      -- its own root is on its way back, or refused: not still archived
      and (k.root <> u.root or k.page <> all (
        coalesce(nullif(current_setting('lull.restoring_pages', true), ''), '{}')::bigint[])));
$$;

-- The target whose key a foreign key refers to, and where a referring row's cells have that key; nothing else.
create or replace function lull.key_of_parent(p_constraint oid, p_columns text[])
returns table (target text, places integer[])
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select g.name, array(
    select array_position(p_columns, b.attname::text)
    from unnest(g.key_columns) with ordinality c (name, i)
    join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attname = c.name
    join unnest(f.confkey, f.conkey) k (pk, fk) on k.pk = a.attnum
    join pg_catalog.pg_attribute b on b.attrelid = f.conrelid and b.attnum = k.fk
    order by c.i)
  from pg_catalog.pg_constraint f
  join lull.targets g on to_regclass(g.name)::oid = f.confrelid
  where f.oid = p_constraint and cardinality(g.key_columns) = cardinality(f.confkey) and array(
    select a.attname::text from unnest(f.confkey) k (n)
    join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.n order by 1) = array(
    select c from unnest(g.key_columns) c order by 1);
$$;
