-- Core: why a table cannot be acted on. Asked at adoption, when a policy is opened, in the dry run and by the doctor: a
-- schema changes after it was adopted.

-- Every fault of a target, with the statement that mends it where there is one. The checks that need the table's
-- columns are left out when there is no such table.
create or replace function lull.own_table_faults(p_target lull.targets)
returns table (reason text, statement text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  return query select * from lull.relation_faults(p_target);
  if found then
    return;
  end if;
  return query select * from lull.column_faults(p_target);
  return query select * from lull.status_faults(p_target);
  return query select * from lull.below_faults(p_target);
  return query select * from lull.access_faults(p_target);
  return query
    select x, null::text from unnest(lull.trust_reasons(to_regclass(p_target.name), p_target.trust)) x
    union all
    select x, null from unnest(lull.path_reasons(coalesce(p_target.search_path, lull.database_path()),
      p_target.trust)) x;
end
$$;

-- Every reason why a target cannot be acted on now, empty when it can; a statement that mends it stands behind it.
create or replace function lull.target_reasons(p_target lull.targets)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when p_target.builtin then '{}' else array(
    select f.reason || coalesce(' (' || f.statement || ')', '') from lull.own_table_faults(p_target) f) end;
end
$$;

-- Whether the relation is there, and is a plain table of the team's.
create or replace function lull.relation_faults(p_target lull.targets)
returns table (reason text, statement text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case
      when n.oid is not null then format('it does not exist; %s has its place: rename it back, or %s and adopt %s',
        n.oid::regclass, format('release %L', p_target.name), n.oid::regclass)
      else 'it does not exist; if it is gone for good, release it' end,
    'select lull.release' || format('(%L);', p_target.name)
  from (select 1) one
  left join pg_catalog.pg_class n on n.oid = p_target.relation and n.relkind = 'r'
  where to_regclass(p_target.name) is null
  union all
  select case
      when c.relkind in ('v', 'm') and exists (
        select 1 from lull.objects o where case o.kind when 'view' then to_regclass(o.identity) end = c.oid)
      then 'it is a view of Lull''s own, not a table of yours; drop it to use its name, and migrate with '
        || '--without-seed-views from then on'
      when c.relkind in ('v', 'm') then 'it is a view'
      when c.relnamespace = 'lull'::regnamespace then 'it belongs to Lull'
      when c.relpersistence = 't' then 'it is a temporary table'
      when c.relispartition then 'it is a partition; adopt the whole table'
      else 'it is not a plain table' end,
    case when c.relkind = 'v' and exists (
        select 1 from lull.objects o where case o.kind when 'view' then to_regclass(o.identity) end = c.oid)
      then format('drop view %s;', c.oid::regclass) end
  from pg_catalog.pg_class c
  where c.oid = to_regclass(p_target.name)
    and (c.relkind not in ('r', 'p') or c.relispartition or c.relkind = 'r' and c.relhassubclass
      or c.relnamespace = 'lull'::regnamespace or c.relpersistence = 't');
$$;

-- Whether the named columns are there and of the right type.
create or replace function lull.column_faults(p_target lull.targets)
returns table (reason text, statement text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with col as (
    select a.attname::text as name, lull.base_type(a.atttypid) as type, a.attnotnull
    from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass(p_target.name) and a.attnum > 0 and not a.attisdropped
  ), named (role, name, type) as (
    values ('owner', p_target.owner_column, 'uuid'), ('status', p_target.status_column, null),
      ('first message', p_target.first_message_column, 'timestamptz'), ('clock', p_target.clock_column, 'timestamptz'),
      ('hold', p_target.hold_column, 'bool')
    union all
    select 'key', k, case when p_target.kind is not null then 'uuid' end from unnest(p_target.key_columns) k
  )
  select format('its %s column %I does not exist', n.role, n.name), null
  from named n where n.name is not null and not exists (select 1 from col where col.name = n.name)
  union all
  select format('its %s column %I is %s; it must be %s', n.role, n.name, c.type, n.type::regtype),
    case when n.type = 'timestamptz' then format('alter table %s alter column %I type timestamptz%s;',
      p_target.name, n.name, case c.type when 'int8'::regtype then format(' using to_timestamp(%I)', n.name)
        else '' end) end
  from named n join col c on c.name = n.name
  where n.type is not null and c.type <> n.type::regtype
  union all
  select format('its hold column %I may be null', c.name), format('alter table %s alter column %I set not null;',
    p_target.name, c.name)
  from col c where c.name = p_target.hold_column and not c.attnotnull
  union all
  select 'no clock is named: a timestamptz column that activity moves', null
  where p_target.kind is not null and p_target.clock_column is null
  union all
  select case when p_target.kind is not null then 'its primary key is not one uuid column'
    else format('%s is no unique, not-null key of it',
      coalesce(nullif(array_to_string(p_target.key_columns, ', '), ''), 'the primary key')) end, null
  where case when p_target.kind is not null then coalesce(cardinality(p_target.key_columns), 0) <> 1
      or lull.unique_key(to_regclass(p_target.name), null) is distinct from p_target.key_columns
    else coalesce(cardinality(p_target.key_columns), 0) = 0 or not exists (
      select 1 from pg_catalog.pg_index i
      where i.indrelid = to_regclass(p_target.name) and i.indisunique and i.indisvalid and i.indimmediate
        and i.indpred is null and i.indexprs is null and array(
          select a.attname::text from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality x (attnum, n)
          join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = x.attnum and a.attnotnull
          order by x.n) = p_target.key_columns) end;
$$;

-- Whether the statuses make sense: known words, each value once, labels of the enum; and whether anything tells a
-- draft of a chat from a chat in use.
create or replace function lull.status_faults(p_target lull.targets)
returns table (reason text, statement text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with value (word, value) as (
    select s.key, v #>> '{}' from jsonb_each(p_target.statuses) s, jsonb_array_elements(
      case jsonb_typeof(s.value) when 'array' then s.value else '[]' end) v
  )
  select format('%s is not a status of Lull''s: draft, active, paused, ended', s.key), null
  from jsonb_each(p_target.statuses) s where s.key not in ('draft', 'active', 'paused', 'ended')
  union all
  select format('the values of %s are not an array of texts', s.key), null
  from jsonb_each(p_target.statuses) s
  where jsonb_typeof(s.value) <> 'array' or jsonb_path_exists(s.value, '$[*] ? (@.type() != "string")')
  union all
  select format('the status "%s" is named twice', v.value), null from value v group by v.value having count(*) > 1
  union all
  select format('the status "%s" is no value of the type %s', v.value, t.oid::regtype), null
  from value v
  join pg_catalog.pg_attribute a on a.attrelid = to_regclass(p_target.name) and a.attname = p_target.status_column
  join pg_catalog.pg_type t on t.oid = lull.base_type(a.atttypid) and t.typtype = 'e'
  where not exists (select 1 from pg_catalog.pg_enum e where e.enumtypid = t.oid and e.enumlabel = v.value)
  union all
  select 'nothing tells a draft of it from a chat in use: name p_status, p_first_message, or a table below that keeps',
    null
  where p_target.kind = 'chat' and p_target.status_column is null and p_target.first_message_column is null
    and not exists (
      select 1 from lull.tables_below(to_regclass(p_target.name)) b
      where b.depth = 1 and coalesce(p_target.below ->> b.child::text, 'keeps') <> 'goes along');
$$;

-- Whether the tables below fit: what `below` says of them, an index for each foreign key that cascades.
create or replace function lull.below_faults(p_target lull.targets)
returns table (reason text, statement text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with below as (
    select * from lull.tables_below(to_regclass(p_target.name)) where depth > 0
  ), edge as (
    select b.child, b.fkey, array_agg(a.attname::text order by k.n) as names
    from below b
    join pg_catalog.pg_constraint f on f.oid = b.fkey
    cross join lateral unnest(f.conkey) with ordinality k (attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.attnum
    group by b.child, b.fkey
  )
  select format('what %s means is not understood: %s, not "keeps", "goes along" or {"clock": column}', s.key, s.value),
    null::text
  from jsonb_each(p_target.below) s
  where s.value not in ('"keeps"', '"goes along"')
    and (jsonb_typeof(s.value) <> 'object' or jsonb_typeof(s.value -> 'clock') is distinct from 'string')
  union all
  select format('its clock %s of %s is no timestamptz column', s.value ->> 'clock', s.key), null
  from jsonb_each(p_target.below) s
  where jsonb_typeof(s.value) = 'object' and to_regclass(s.key) is not null and not exists (
    select 1 from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass(s.key) and a.attname = s.value ->> 'clock' and not a.attisdropped
      and lull.base_type(a.atttypid) = 'timestamptz'::regtype)
  union all
  select format('%s below it has inheriting tables, which its foreign key does not cover', b.child), null
  from below b join pg_catalog.pg_class c on c.oid = b.child
  where c.relkind = 'r' and c.relhassubclass
  union all
  select format('the foreign key of %s on (%s) has no index', e.child, array_to_string(e.names, ', ')),
    format('create index on %s (%s);', e.child, (
      select string_agg(quote_ident(n), ', ' order by o) from unnest(e.names) with ordinality x (n, o)))
  from edge e
  where not exists (
    select 1
    from pg_catalog.pg_index i
    where i.indrelid = e.child and i.indisvalid and i.indpred is null
      and i.indnkeyatts >= cardinality(e.names)
      and e.names @> array(
        select a.attname::text
        from unnest(i.indkey[0:cardinality(e.names) - 1]) k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum)
      and e.names <@ array(
        select a.attname::text
        from unnest(i.indkey[0:cardinality(e.names) - 1]) k (attnum)
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum));
$$;

-- Whether Lull's owner may do with the table and those below it what a run, a restore and a transition do.
create or replace function lull.access_faults(p_target lull.targets)
returns table (reason text, statement text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with tab as (
    select distinct c.oid, c.oid::regclass as name, c.relnamespace, c.relforcerowsecurity
    from lull.tables_below(to_regclass(p_target.name)) b
    join pg_catalog.pg_class c on c.oid = b.child
  ), owner as (
    select pg_get_userbyid(lull.owner()) as name
  )
  select format('%s may not select, insert, update and delete in %s', o.name, t.name),
    format('grant select, insert, update, delete on %s to %I;', t.name, o.name)
  from tab t, owner o
  where not (has_table_privilege(o.name, t.oid, 'select') and has_table_privilege(o.name, t.oid, 'insert')
    and has_table_privilege(o.name, t.oid, 'update') and has_table_privilege(o.name, t.oid, 'delete'))
  union all
  select distinct format('%s may not use the schema %s', o.name, t.relnamespace::regnamespace),
    format('grant usage on schema %s to %I;', t.relnamespace::regnamespace, o.name)
  from tab t, owner o where not has_schema_privilege(o.name, t.relnamespace, 'usage')
  union all
  select format('row security of %s hides rows from %s', t.name, o.name),
    case when t.relforcerowsecurity then format('alter table %s no force row level security;', t.name) end
  from tab t, owner o where row_security_active(t.oid);
$$;
