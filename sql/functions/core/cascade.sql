-- Core: cascades. A *cascade* is every row that goes with a row: by a foreign key ON DELETE CASCADE, at any depth, or
-- as the companion of a team's row. Foreign keys that are NOT ENFORCED take nothing along and are not followed.

-- A table with its partitions at every level and the tables that it is a partition of.
create or replace function lull.partition_family(p_table oid)
returns oid[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select p_table
    union
    select relid::oid from pg_catalog.pg_partition_ancestors(p_table) a (relid)
    union
    select t.relid::oid from pg_catalog.pg_partition_tree(p_table) t);
end
$$;

-- The tables that hold a table's rows: itself, or its leaf partitions.
create or replace function lull.leaf_tables(p_table oid)
returns oid[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select case when cardinality(l.leaves) = 0 then array[p_table] else l.leaves end
    from (
      select array(select t.relid::oid from pg_catalog.pg_partition_tree(p_table) t where t.isleaf order by 1) as leaves
    ) l);
end
$$;

-- The columns by which the child of a foreign key refers to its parent, as a condition between two aliases. Operators,
-- types and collation are those by which the foreign key itself compares.
create or replace function lull.key_match(p_constraint oid, p_parent text, p_child text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select string_agg(format('%s.%I%s operator(%I.%s) %s.%I%s%s',
      p_parent, a.attname, lull.operand_cast(a.atttypid, o.oprleft), s.nspname, o.oprname,
      p_child, b.attname, lull.operand_cast(b.atttypid, o.oprright),
      case when a.attcollation <> b.attcollation and a.attcollation <> 0 then
        (select format(' collate %I.%I', cn.nspname, c.collname)
          from pg_catalog.pg_collation c join pg_catalog.pg_namespace cn on cn.oid = c.collnamespace
          where c.oid = a.attcollation) end), ' and ' order by k.ord)
    from pg_catalog.pg_constraint f
    cross join lateral unnest(f.confkey, f.conkey, f.conpfeqop) with ordinality k (pk, fk, op, ord)
    join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.pk
    join pg_catalog.pg_attribute b on b.attrelid = f.conrelid and b.attnum = k.fk
    join pg_catalog.pg_operator o on o.oid = k.op
    join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
    where f.oid = p_constraint);
end
$$;

-- The cast that makes a column an operand of an operator; empty where none is needed.
create or replace function lull.operand_cast(p_column oid, p_operand oid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select case
      when p_column = p_operand or t.typtype = 'p' then ''
      else '::' || pg_catalog.format_type(p_operand, -1) end
    from pg_catalog.pg_type t
    where t.oid = p_operand);
end
$$;

-- The foreign keys onto a table and everything below it. `cascades`: the child's rows go along; else they only refer to
-- a row that goes. A companion has no constraint.
create or replace function lull.cascade_graph(p_table regclass)
returns table (
  constraint_oid oid, constraint_name text, parent oid, referenced oid, child oid, cascades boolean,
  parent_columns text[], child_columns text[])
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with recursive key as materialized (
    select f.oid, f.conname::text as name, f.confrelid, f.conrelid, f.confkey, f.conkey, f.confdeltype = 'c' as cascades
    from pg_catalog.pg_constraint f
    where f.contype = 'f' and f.conparentid = 0
      and exists (select 1 from pg_catalog.pg_trigger g where g.tgconstraint = f.oid)  -- NOT ENFORCED: none
  ), reached (tab, family) as (
    select p_table::oid, lull.partition_family(p_table)
    union
    select x.child, lull.partition_family(x.child)
    from reached r
    cross join lateral (
      select k.conrelid as child from key k where k.cascades and k.confrelid = any (r.family)
      union all
      select c from lull.companion_table(r.tab) c where c is not null
    ) x
  )
  select k.oid, k.name, r.tab, k.confrelid, k.conrelid, k.cascades,
    array(select a.attname::text from unnest(k.confkey) with ordinality u (n, ord)
      join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.n order by u.ord),
    array(select a.attname::text from unnest(k.conkey) with ordinality u (n, ord)
      join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n order by u.ord)
  from reached r
  join key k on k.confrelid = any (r.family)
  union all
  select null, 'companion', r.tab, r.tab, c, true, lull.unique_key(r.tab, null), '{id}'
  from reached r
  cross join lull.companion_table(r.tab) c
  where c is not null;
end
$$;

-- Whether rows of a table have companions, and where: lull.sessions, or null.
create or replace function lull.companion_table(p_table oid)
returns oid
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return 'lull.sessions'::regclass::oid
  where exists (
      select 1 from lull.targets g
      where to_regclass(g.name) = p_table and to_jsonb(g) ->> 'kind' is not null and not g.builtin)
    and exists (
      select 1 from pg_catalog.pg_attribute
      where attrelid = 'lull.sessions'::regclass and attname = 'companion_of' and not attisdropped);
end
$$;

-- The foreign keys ON DELETE CASCADE below a table, at any depth: parent and child by name.
create or replace function lull.cascade_tables(p_table regclass)
returns table (parent regclass, child regclass, parent_columns text[], child_columns text[])
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  select g.parent::regclass, g.child::regclass, g.parent_columns, g.child_columns
  from lull.cascade_graph(p_table) g
  where g.cascades and g.constraint_oid is not null
  order by g.child::regclass::text, g.constraint_name;
end
$$;
