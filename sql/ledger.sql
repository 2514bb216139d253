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
  c_mark constant text := 'Made by Lull, and replaced on each deploy.';
  v_object oid := case p_kind when 'function' then to_regprocedure(p_identity)::oid else to_regclass(p_identity)::oid end;
begin
  -- Ours is what the ledger names and what still carries the mark: a name can be dropped and taken again.
  if v_object is not null and not (
    exists (select 1 from lull.objects where identity = p_identity)
    and obj_description(v_object, case p_kind when 'function' then 'pg_proc' else 'pg_class' end)
      is not distinct from c_mark
  ) then
    delete from lull.objects where identity = p_identity;
    raise notice '% exists and was left alone. Lull''s % of that name was not created: rename yours and migrate again, or keep yours%.',
      p_identity, p_kind,
      case when p_kind = 'view' then ' and tie it in with lull.adopt_sessions() or lull.adopt()' else '' end;
    return;
  end if;
  execute p_ddl;
  execute format('comment on %s %s is %L', p_kind, p_identity, c_mark);
  insert into lull.objects (kind, identity) values (p_kind, p_identity) on conflict (identity) do nothing;
end
$$;
