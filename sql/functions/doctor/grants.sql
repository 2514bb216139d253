-- Doctor, rights: what roles that are not trusted may do, and objects that lost Lull's mark.

-- The roles that are not trusted and may create triggers on a target's tables or foreign keys to them: one that does so
-- stops its policy. [{"table", "roles"}].
create or replace function lull.code_grants(p_target lull.targets)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('table', x.name, 'roles', x.roles) order by x.name), '[]')
  from (
    select c.oid::regclass::text as name, array_agg(distinct coalesce(quote_ident(r.rolname), 'public')
      order by coalesce(quote_ident(r.rolname), 'public')) as roles
    from lull.tables_with_code(to_regclass(p_target.name)) t (oid)
    join pg_catalog.pg_class c on c.oid = t.oid and c.relnamespace <> 'lull'::regnamespace
    cross join lateral aclexplode(c.relacl) a
    left join pg_catalog.pg_roles r on r.oid = a.grantee
    where a.privilege_type in ('TRIGGER', 'REFERENCES')
      and (a.grantee = 0 or not lull.is_trusted(a.grantee, coalesce(p_target.trust, '{}')))
      and a.grantee <> c.relowner
    group by c.oid
  ) x;
$$;

-- Objects of Lull's in public that lost the comment by which a migration knows them (pg_dump --no-comments).
create or replace function lull.unmarked_objects()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(o.identity order by o.identity), '[]')
  from lull.objects o
  where o.fingerprint is not null and case o.kind
    when 'function' then to_regprocedure(o.identity) is not null
      and obj_description(to_regprocedure(o.identity), 'pg_proc') is null
    else to_regclass(o.identity) is not null and obj_description(to_regclass(o.identity), 'pg_class') is null
  end;
$$;

-- Wrong privileges: what a role of PostgREST may do and must not, and what service_role must be able to do and cannot.
-- Returns [{"object", "role", "fault"}]. An object that PUBLIC may use is listed once. Absent roles are not listed.
create or replace function lull.grant_faults()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with ours as (
    select p.oid, p.oid::regprocedure::text as name, p.proowner,
      exists (
        select 1 from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0
      ) as open_to_all,
      p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%' as is_operation,
      p.prosecdef and coalesce(p.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp'] as is_sealed
    from pg_catalog.pg_proc p
    where p.pronamespace = 'lull'::regnamespace
      or p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%'
      or p.oid in (
        select to_regprocedure(o.identity) from lull.objects o where o.kind = 'function')
  ), relation as (
    select c.oid, c.oid::regclass::text as name, c.relkind
    from pg_catalog.pg_class c
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
      and (c.relnamespace = 'lull'::regnamespace
        or c.oid in (select to_regclass(o.identity) from lull.objects o where o.kind = 'view'))
  ), role as (
    select r.rolname as name from pg_catalog.pg_roles r where r.rolname in ('anon', 'authenticated', 'service_role')
  ), fault (object, role, fault) as (
    select name, 'PUBLIC', 'may be executed' from ours where open_to_all
    union all
    select o.name, r.name, 'may be executed'
    from ours o
    join role r on r.name <> 'service_role' or o.name like 'lull.%'
    where not o.open_to_all and has_function_privilege(r.name, o.oid, 'execute')
    union all
    select o.name, r.name, 'cannot be executed'
    from ours o
    join role r on r.name = 'service_role'
    where o.is_operation and not has_function_privilege(r.name, o.oid, 'execute')
    union all
    select name, 'any caller', 'does not run with its owner''s rights and the search path pg_catalog, pg_temp'
    from ours where is_operation and not is_sealed
    union all
    select t.name, r.name, 'may be read or written'
    from relation t
    cross join role r
    where case t.relkind
      when 'S' then has_sequence_privilege(r.name, t.oid, 'usage, select, update')
      else has_table_privilege(r.name, t.oid, 'select, insert, update, delete, truncate, references, trigger')
        or has_any_column_privilege(r.name, t.oid, 'select, insert, update, references')
    end
    union all
    select 'schema lull', r.name, 'may be used'
    from role r
    where has_schema_privilege(r.name, 'lull', 'usage, create')
  )
  select coalesce(jsonb_agg(to_jsonb(f) order by f.object, f.role), '[]') from fault f;
$$;
