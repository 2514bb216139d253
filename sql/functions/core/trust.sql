-- Core: trust. The code of a team's table (triggers, defaults, checks, types) runs in statements of Lull's, with the
-- rights of Lull's owner. So each role that could have written that code must be trusted with those rights: Lull's
-- owner itself, a superuser, a member of Lull's owner, or a role that the adoption names.

-- The role that Lull's functions run as.
create or replace function lull.owner()
returns oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select relowner from pg_catalog.pg_class where oid = 'lull.targets'::regclass;
$$;

-- Whether code of a role may run as Lull's owner. A member of Lull's owner may act as it anyway; that Lull's owner is a
-- member of the role says nothing (for a superuser it is true of every role).
create or replace function lull.is_trusted(p_role oid, p_trust text[])
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select r.oid = lull.owner() or r.rolsuper or pg_has_role(r.oid, lull.owner(), 'member') or r.rolname = any (p_trust)
    or r.rolname = 'pg_database_owner' and lull.is_trusted((
      select d.datdba from pg_catalog.pg_database d where d.datname = current_database()), p_trust)
  from pg_catalog.pg_roles r
  where r.oid = p_role;
$$;

-- Every role that is not trusted and owns code of p_table or of a table below it, as sentences; empty when all are.
create or replace function lull.trust_reasons(p_table regclass, p_trust text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(r.reason order by r.reason), '{}')
  from (
    select distinct format('%s belongs to %s, whose code would run as %s', c.what, quote_ident(r.rolname),
      quote_ident(pg_get_userbyid(lull.owner()))) as reason
    from lull.code_owners(array(select lull.tables_with_code(p_table))) c
    join pg_catalog.pg_roles r on r.oid = c.role
    where not lull.is_trusted(c.role, coalesce(p_trust, '{}'))
  ) r;
$$;

-- The tables whose code runs when rows of p_table go or come back: it and those below it, those whose links are set to
-- null, and all their partitions.
create or replace function lull.tables_with_code(p_table regclass)
returns setof oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select distinct tree.relid::oid
  from (
    select child from lull.tables_below(p_table)
    union
    select f.conrelid from pg_catalog.pg_constraint f
    join lull.tables_below(p_table) b on f.confrelid = b.child
    where f.contype = 'f' and f.confdeltype in ('n', 'd')
  ) t (oid)
  cross join lateral (
    select relid from pg_catalog.pg_partition_tree(t.oid) union select t.oid::regclass) tree;
$$;

-- The types of these tables' columns, with what those are made of: base types of domains, elements, attributes.
create or replace function lull.types_of(p_tables oid[])
returns setof oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive type (oid) as (
    select a.atttypid from pg_catalog.pg_attribute a
    where a.attrelid = any (p_tables) and a.attnum > 0 and not a.attisdropped
    union
    select m.oid
    from type y
    join pg_catalog.pg_type t on t.oid = y.oid
    cross join lateral (
      select t.typbasetype where t.typtype = 'd'
      union all
      select t.typelem where t.typelem <> 0
      union all
      select a.atttypid from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0
        and not a.attisdropped
      union all
      select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
    ) m (oid)
  )
  select oid from type;
$$;

-- What these tables' triggers, defaults, generated columns, checks, rules and indexes refer to, and the checks of their
-- domains: rows of pg_depend as (catalog, object).
create or replace function lull.expressions_use(p_tables oid[], p_types oid[])
returns table (classid oid, objid oid)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select d.refclassid, d.refobjid
  from (
    select 'pg_catalog.pg_trigger'::regclass, g.oid from pg_catalog.pg_trigger g
    where g.tgrelid = any (p_tables) and not g.tgisinternal
    union all
    select 'pg_catalog.pg_attrdef'::regclass, a.oid from pg_catalog.pg_attrdef a where a.adrelid = any (p_tables)
    union all
    select 'pg_catalog.pg_constraint'::regclass, c.oid from pg_catalog.pg_constraint c
    where c.conrelid = any (p_tables) or c.contypid = any (p_types)
    union all
    select 'pg_catalog.pg_rewrite'::regclass, r.oid from pg_catalog.pg_rewrite r where r.ev_class = any (p_tables)
    union all
    select 'pg_catalog.pg_class'::regclass, i.indexrelid from pg_catalog.pg_index i where i.indrelid = any (p_tables)
  ) p (classid, objid)
  join pg_catalog.pg_depend d on d.classid = p.classid and d.objid = p.objid;
$$;

-- The owners of these tables, of the functions that their expressions, triggers and operators call, and of the types of
-- their columns.
create or replace function lull.code_owners(p_tables oid[])
returns table (what text, role oid)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with type as materialized (
    select lull.types_of(p_tables) as oid
  ), uses as materialized (
    select * from lull.expressions_use(p_tables, array(select oid from type))
  )
  select format('table %s', c.oid::regclass), c.relowner from pg_catalog.pg_class c where c.oid = any (p_tables)
  union all
  select format('function %s', f.oid::regprocedure), f.proowner
  from pg_catalog.pg_proc f
  where f.oid in (
    select objid from uses where classid = 'pg_catalog.pg_proc'::regclass
    union all
    select g.tgfoid from pg_catalog.pg_trigger g where g.tgrelid = any (p_tables) and not g.tgisinternal
    union all
    select o.oprcode from uses u join pg_catalog.pg_operator o on o.oid = u.objid
    where u.classid = 'pg_catalog.pg_operator'::regclass
    union all
    select x.oid from type y join pg_catalog.pg_range r on y.oid in (r.rngtypid, r.rngmultitypid)
    cross join lateral (select r.rngcanonical::oid union all select r.rngsubdiff::oid) x (oid))
  union all
  select format('type %s', t.oid::regtype), t.typowner
  from pg_catalog.pg_type t
  where t.oid in (
    select oid from type union all select objid from uses where classid = 'pg_catalog.pg_type'::regclass);
$$;

-- The schemas that a search path means for Lull's owner, without the implicit ones.
create or replace function lull.path_schemas(p_path text)
returns name[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_catalog.set_config('search_path', p_path, true);
  return pg_catalog.current_schemas(false);
end
$$;

-- The search path that a database gives its connections, with pg_temp last: its own setting, else the one that this
-- connection began with.
create or replace function lull.database_path()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select lull.with_temp_last(coalesce(
    (select regexp_replace(c, '^search_path=', '')
      from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c
      where s.setrole = 0 and c like 'search\_path=%'
        and s.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
      order by s.setdatabase desc
      limit 1),
    (select nullif(btrim(replace(reset_val, '""', '')), '') from pg_catalog.pg_settings where name = 'search_path'),
    '"$user", public'));
$$;

-- A search path with pg_temp at its end and nowhere else: elsewhere, or unnamed, it comes first.
create or replace function lull.with_temp_last(p_path text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select concat_ws(', ', nullif(btrim(regexp_replace(p_path, '(^|,)\s*"?pg_temp"?\s*(?=,|$)', '\1', 'g'), ', '), ''),
    'pg_temp');
$$;

-- Each schema of a search path in which a role that is not trusted may create objects, as sentences.
create or replace function lull.path_reasons(p_path text, p_trust text[])
returns text[]
language sql
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct format('%s may create objects in the schema %I of its search path',
    coalesce(quote_ident(r.rolname), 'every role'), n.nspname)), '{}')
  from unnest(lull.path_schemas(p_path)) s (name)
  join pg_catalog.pg_namespace n on n.nspname = s.name and n.nspname not like 'pg\_%'
  cross join lateral (
    select n.nspowner as role
    union
    select a.grantee from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    where a.privilege_type = 'CREATE'
  ) g
  left join pg_catalog.pg_roles r on r.oid = g.role
  where g.role = 0 or not lull.is_trusted(g.role, coalesce(p_trust, '{}'));
$$;
