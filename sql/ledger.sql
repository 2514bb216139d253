-- The schema, the ledger of what Lull applied and created, how helpers are replaced, and how a name that may be taken is
-- installed. Applied first, every time. Nothing that Lull did not create is ever replaced or dropped.

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

-- Helpers, the functions of schema lull, are replaced in place: a call in flight knows them by their oid, which they keep.
-- One that cannot be replaced, or that this release does not have, is retired: it stays for the calls in flight, and the
-- first migration an hour later drops it. Trigger functions stay with their triggers.

-- Run the text of a file of functions. A helper that Postgres refuses to replace (its result or the name of an argument is
-- another now) gives up its name, and the file is run again: the hint of that error names the function, in any language.
create or replace function lull.replace_functions(p_sql text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_hint text;
  v_helper regprocedure;
begin
  loop
    begin
      execute p_sql;
      return;
    exception when invalid_function_definition then
      get stacked diagnostics v_hint = pg_exception_hint;
      v_helper := to_regprocedure(substring(v_hint from 'lull\.\w+\(.*\)'));
      if v_helper is null then
        raise;
      end if;
      execute format('alter function %s rename to %I', v_helper, 'replaced_' || v_helper::oid);
    end;
  end loop;
end
$$;

-- Retire the helpers that this transaction did not make, and drop those that have been retired for an hour. A retired one
-- keeps its name, for whoever began before the migration and calls it after; but not when a call that means the one of
-- this release could reach it. Since when it is retired is in its comment.
create or replace function lull.retire_helpers()
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_helper record;
begin
  for v_helper in
    with helper as (
      select p.oid, p.proname, p.pronargs - p.pronargdefaults as fewest, p.pronargs as most,
        age(p.xmin) <= 0 and p.proname <> 'replaced_' || p.oid as is_made,
        substring(obj_description(p.oid, 'pg_proc') from '^Retired (.+)$')::timestamptz as retired_at
      from pg_catalog.pg_proc p
      where p.pronamespace = 'lull'::regnamespace
        and not exists (select 1 from pg_catalog.pg_trigger t where t.tgfoid = p.oid)
    )
    select h.*, h.oid::regprocedure as identity, not h.is_made and exists (
      select 1 from helper m
      where m.is_made and m.proname = h.proname and m.fewest <= h.most and h.fewest <= m.most) as is_in_the_way
    from helper h
  loop
    if v_helper.is_made then
      if v_helper.retired_at is not null then
        execute format('comment on function %s is null', v_helper.identity);
      end if;
    elsif v_helper.retired_at <= now() - interval '1 hour' then
      execute format('drop function %s', v_helper.identity);
    else
      if v_helper.retired_at is null then
        execute format('comment on function %s is %L', v_helper.identity, 'Retired ' || (to_jsonb(now()) #>> '{}'));
      end if;
      if v_helper.is_in_the_way then
        execute format('alter function %s rename to %I', v_helper.identity, 'replaced_' || v_helper.oid);
      end if;
    end if;
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
