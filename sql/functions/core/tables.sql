-- Core: what a table must be, so that its rows can be locked, deleted, archived and restored.

-- The columns of the unique index on p_column (or of the primary key) when every one is not null, else null.
create or replace function lull.unique_key(p_table regclass, p_column text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select k.names
  from pg_catalog.pg_index i
  cross join lateral (
    select array_agg(a.attname::text order by x.n) as names, bool_and(a.attnotnull) as not_null
    from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality x (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = x.attnum
  ) k
  where i.indrelid = p_table and i.indisunique and i.indisvalid and i.indimmediate
    and i.indpred is null and i.indexprs is null and k.not_null
    and case when p_column is null then i.indisprimary else k.names = array[p_column] end
  limit 1;
$$;

-- Every reason why rows of a table and all below them cannot be deleted and restored by the current user, empty when
-- they can.
create or replace function lull.restorable_reasons(p_table regclass)
returns text[]
language sql
set search_path = pg_catalog, pg_temp
as $$
  with level as (
    select p_table as tab
    union
    select child from lull.cascade_tables(p_table)
  )
  select array(
    select 'it is not a plain table' from pg_catalog.pg_class
    where oid = p_table and (relkind not in ('r', 'p') or relispartition or (relkind = 'r' and relhassubclass))
    union all
    select 'it belongs to Lull' from pg_catalog.pg_class
    where oid = p_table and relnamespace = 'lull'::regnamespace
    union all
    select format('%s below it has inheriting tables, which its foreign key does not cover', l.tab)
    from level l
    join pg_catalog.pg_class c on c.oid = l.tab
    where l.tab <> p_table and c.relkind = 'r' and c.relhassubclass
    union all
    select format('the foreign key of %s on (%s) has no index', e.child, array_to_string(e.child_columns, ', '))
    from lull.cascade_tables(p_table) e
    where not exists (
      select 1
      from pg_catalog.pg_index i
      where i.indrelid = e.child and i.indisvalid and i.indpred is null
        and e.child_columns @> array(
          select a.attname::text
          from unnest(i.indkey[0:cardinality(e.child_columns) - 1]) k (attnum)
          join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum)
        and i.indnkeyatts >= cardinality(e.child_columns) and i.indexprs is null)
    union all
    select format('%s may not select, insert, update and delete in %s', current_user, l.tab)
    from level l
    where not (has_table_privilege(l.tab, 'select') and has_table_privilege(l.tab, 'insert')
      and has_table_privilege(l.tab, 'update') and has_table_privilege(l.tab, 'delete'))
    union all
    select distinct format('%s may not use the schema %s', current_user, c.relnamespace::regnamespace)
    from level l
    join pg_catalog.pg_class c on c.oid = l.tab
    where not has_schema_privilege(c.relnamespace, 'usage')
    union all
    select format('row security of %s hides rows from %s', l.tab, current_user)
    from level l where row_security_active(l.tab::oid)
  );
$$;
