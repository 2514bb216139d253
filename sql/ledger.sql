-- The schema, the ledger of what Lull applied and created, and how a name that may be taken is installed. Applied
-- first, every time. Nothing that Lull did not create is ever replaced or dropped.

do $$
begin
  if to_regnamespace('lull') is not null and to_regclass('lull.migrations') is null then
    raise exception 'There is a schema "lull" that Lull did not create. Nothing was changed. Rename it, then migrate again.';
  end if;
end
$$;

create schema if not exists lull;

create table if not exists lull.migrations (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
);

-- What Lull created in public, by which it knows what it may replace.
create table if not exists lull.objects (
  kind text not null check (kind in ('function', 'view')),
  identity text primary key,
  created_at timestamptz not null default now()
);

-- Operations are replaced on each deploy, so none of their names may belong to somebody else.
do $$
declare
  v_foreign text;
begin
  select string_agg(p.oid::regprocedure::text, ', ') into v_foreign
  from pg_catalog.pg_proc p
  where p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%'
    and not exists (select 1 from lull.objects o where o.identity = p.oid::regprocedure::text);
  if v_foreign is not null then
    raise exception 'Lull did not create %, and would have to replace it. Nothing was changed. Rename it, then migrate again.', v_foreign;
  end if;
end
$$;

-- Helpers are made anew on each deploy, so that one which was renamed does not linger; only in
-- schema lull, and trigger functions stay with their triggers.
do $$
declare
  v_helper regprocedure;
begin
  for v_helper in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'lull'::regnamespace
      and not exists (select 1 from pg_catalog.pg_trigger t where t.tgfoid = p.oid)
  loop
    execute format('drop function %s', v_helper);
  end loop;
end
$$;

-- Create or replace an object under a name that the project may be using already: then it is left alone, and the
-- migration prints what to do.
create or replace function lull.install(p_kind text, p_identity text, p_ddl text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_name text := split_part(p_identity, '(', 1);
begin
  -- A view of ours whose name a table has now was dropped by the team.
  delete from lull.objects
  where kind = 'view' and identity = p_identity
    and (select relkind from pg_catalog.pg_class where oid = to_regclass(v_name)) <> 'v';
  if not exists (select 1 from lull.objects where identity = p_identity) then
    if (case p_kind when 'function' then to_regprocedure(p_identity) is not null else to_regclass(v_name) is not null end) then
      raise notice '% exists and was left alone. Lull''s % of that name was not created: rename yours and migrate again, or keep yours%.',
        p_identity, p_kind,
        case when p_kind = 'view' then ' and tie it in with lull.adopt_sessions() or lull.adopt()' else '' end;
      return;
    end if;
    insert into lull.objects (kind, identity) values (p_kind, p_identity);
  end if;
  execute p_ddl;
end
$$;
