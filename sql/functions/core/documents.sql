-- Core: documents. A row in the archive is a JSON array of text forms (null for SQL null). Text is what Postgres itself
-- dumps and reads back, so every type survives: a JSON null is the text 'null', an array keeps its bounds. Functions
-- that make or read text forms run with the output settings pinned.

-- The columns of a table, in table order. The type is without its length: a cast to varchar(3) would cut a value that
-- is too long, where an insert refuses it.
create or replace function lull.table_columns(p_table regclass)
returns table (name text, type text, is_generated boolean, keeps_blanks boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select a.attname::text, pg_catalog.format_type(a.atttypid, -1), a.attgenerated <> '',
    a.atttypmod = -1 and t.typoutput = 'pg_catalog.bpcharout'::regproc
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = p_table
    and a.attnum > 0
    and not a.attisdropped
  order by a.attnum;
end
$$;

-- The type of one column as table_columns has it; null when there is no such column.
create or replace function lull.column_type(p_table regclass, p_column text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select pg_catalog.format_type(a.atttypid, -1) from pg_catalog.pg_attribute a
    where a.attrelid = p_table and a.attname = p_column and a.attnum > 0 and not a.attisdropped);
end
$$;

-- What makes a value compare as a column does: ' collate …' where the column has a collation of its own. Empty else.
create or replace function lull.collate_as(p_table oid, p_column text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((
    select format(' collate %I.%I', n.nspname, c.collname)
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_collation c on c.oid = a.attcollation
    join pg_catalog.pg_namespace n on n.oid = c.collnamespace
    where a.attrelid = p_table and a.attname = p_column and c.oid <> 'pg_catalog."default"'::regcollation), '');
end
$$;

-- The text forms of a row's columns in table order, a comma-separated list for an array of text.
create or replace function lull.text_forms(p_table regclass, p_alias text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select string_agg(lull.text_form(p_alias, c.name, c.keeps_blanks), ', ' order by c.n)
    from lull.table_columns(p_table) with ordinality c (name, type, is_generated, keeps_blanks, n));
end
$$;

-- The text form of one column. A cast to text takes away the blanks at the end of a bpchar without a length.
create or replace function lull.text_form(p_alias text, p_column text, p_keeps_blanks boolean)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    case when p_keeps_blanks then 'pg_catalog.textin(pg_catalog.bpcharout(%I.%I))' else '%I.%I::text' end,
    p_alias, p_column);
$$;

-- About how many bytes the text forms of a row take, as an expression that reads no value which is stored out of line
-- and uncompressed. A compressed value is measured as text, one at a time.
create or replace function lull.size_expression(p_table regclass, p_alias text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%s::bigint', 20 + 12 * count(*) filter (where t.typlen > 0)
      + 40 * count(*) filter (where t.typlen = -2))
    || coalesce(string_agg(case
    when t.oid in ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
      then format(' + coalesce(octet_length(%1$I.%2$I), 0)', p_alias, a.attname)
    when t.oid = 'bytea'::regtype then format(' + coalesce(2 * octet_length(%I.%I), 0)', p_alias, a.attname)
    when t.typlen = -1 then format(
      ' + coalesce(case when pg_column_compression(%1$I.%2$I) is null then 2 * pg_column_size(%1$I.%2$I)
        else octet_length(%1$I.%2$I::text) end, 0)', p_alias, a.attname) end, '' order by a.attnum), '')
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped;
$$;

-- A row's key as one text, as an expression: the value of a single column, a JSON array of several.
create or replace function lull.key_form(p_columns text[], p_alias text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case count(*) when 1 then min(format('%I.%I::text', p_alias, k.name))
    else format('jsonb_build_array(%s)::text',
      string_agg(format('%I.%I::text', p_alias, k.name), ', ' order by k.n)) end
  from unnest(p_columns) with ordinality k (name, n);
$$;

-- The equality of a type, as it stands in a statement: that of its default operator class.
create or replace function lull.equality(p_type regtype)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    with base as (
      select case when t.typtype = 'd' then t.typbasetype else t.oid end as oid, t.typtype, t.typcategory
      from pg_catalog.pg_type t where t.oid = p_type
    )
    select coalesce((
      select format('operator(%I.%s)', s.nspname, o.oprname)
      from base b
      join pg_catalog.pg_opclass c on c.opcintype = b.oid and c.opcdefault
      join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname in ('btree', 'hash')
      join pg_catalog.pg_amop x on x.amopfamily = c.opcfamily and x.amoplefttype = c.opcintype
        and x.amoprighttype = c.opcintype and x.amopstrategy = case m.amname when 'btree' then 3 else 1 end
      join pg_catalog.pg_operator o on o.oid = x.amopopr
      join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
      order by m.amname
      limit 1), 'operator(pg_catalog.=)'));
end
$$;
