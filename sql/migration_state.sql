-- The schema, the lists of applied migrations and created objects, and the functions that replace helpers and install
-- names that the project may use already. Applied first, every time. Nothing that Lull did not create is ever replaced
-- or dropped.

do $$
begin
  if to_regnamespace('lull') is not null and to_regclass('lull.migrations') is null then
    raise exception 'There is a schema "lull" that Lull did not create. Nothing was changed. %',
      'Rename it, then migrate again.';
  end if;
end
$$;

create schema if not exists lull;

create table if not exists lull.migrations (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
);

-- The objects that Lull created in public, and may therefore replace.
create table if not exists lull.objects (
  kind text not null check (kind in ('function', 'view')),
  identity text primary key,
  created_at timestamptz not null default now()
);

-- A dump without rows (pg_dump --schema-only) has Lull's tables and functions, and not the rows that the migrations
-- wrote. lull.kept_state(), which each migration ends by writing, has those rows in its body.
do $$
declare
  v_kept record;
  v_columns text;
begin
  if exists (select 1 from lull.migrations) or to_regclass('lull.targets') is null then
    return;
  elsif to_regprocedure('lull.kept_state()') is null then
    raise exception 'The schema "lull" is from a dump without rows, made by a release that kept no state in it. %',
      'Nothing was changed. Restore it with the rows of lull.migrations, lull.objects and lull.targets, or drop '
      'the schema and the functions public.lull_*; then migrate again.';
  end if;
  for v_kept in select k.key as name, k.value as documents from jsonb_each(lull.kept_state()) k loop
    v_columns := (select string_agg(quote_ident(c), ', ') from jsonb_object_keys(v_kept.documents -> 0) c);
    continue when v_columns is null;
    execute format('insert into lull.%I (%s) select %2$s from jsonb_populate_recordset(null::lull.%1$I, $1) '
      'on conflict do nothing', v_kept.name, v_columns) using v_kept.documents;
  end loop;
  raise notice 'This database was restored from a dump without rows: what Lull knows of its own objects is back.';
end
$$;

-- Operations are replaced on each deploy, so none of their names may belong to an object of the project.
do $$
declare
  v_foreign text;
begin
  select string_agg(p.oid::regprocedure::text, ', ') into v_foreign
  from pg_catalog.pg_proc p
  where p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%'
    and not exists (select 1 from lull.objects o where o.identity = p.oid::regprocedure::text);
  if v_foreign is not null then
    raise exception 'Lull did not create %, and would have to replace it. Nothing was changed. %', v_foreign,
      'Rename it, then migrate again.';
  end if;
end
$$;

-- Helpers, the functions of schema lull, are replaced in place: a call in flight refers to them by oid, which does not
-- change. A helper that cannot be replaced, or that this release does not have, is retired: it stays for the calls in
-- flight, and the first migration at least one hour later drops it. Trigger functions stay with their triggers.

-- Run the text of a file of functions. A helper that Postgres refuses to replace (its result type or an argument's name
-- has changed) is renamed, and the file is run again. The hint of that error names the function, in any language.
create or replace function lull.replace_functions(p_sql text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
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

-- Retire the helpers that this transaction did not create, and drop those that were retired an hour ago or earlier. A
-- retired helper keeps its name for transactions that began before the migration and call it after, unless a call of
-- this release's helper of the same name could resolve to it. Its comment has the time at which it was retired.
create or replace function lull.retire_helpers()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
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
      where p.pronamespace = 'lull'::regnamespace and p.proname <> 'kept_state'
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

-- Create or replace a trigger, unless it is there exactly so: to replace one locks its table against writers until the
-- migration commits, and a run beside it would give up. p_definition: as pg_get_triggerdef writes it, behind
-- `CREATE TRIGGER`.
create or replace function lull.replace_trigger(p_definition text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select 1 from pg_catalog.pg_trigger t
    where t.tgname = split_part(p_definition, ' ', 1) and t.tgenabled = 'O'
      and pg_get_triggerdef(t.oid) = 'CREATE TRIGGER ' || p_definition)
  then
    execute 'create or replace trigger ' || p_definition;
  end if;
end
$$;

-- Create or replace an object under a name that the project may use already. In that case the project's object is left
-- alone, and the migration prints what to do. With the setting `seed-views` at false no view is created, and Lull's is
-- dropped.
create or replace function lull.install(p_kind text, p_identity text, p_ddl text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_mark constant text := 'Made by Lull, and replaced on each deploy.';
  v_object oid := case p_kind when 'function' then to_regprocedure(p_identity)::oid
    else to_regclass(p_identity)::oid end;
  v_is_ours constant boolean := v_object is not null and lull.is_ours(p_kind, p_identity, v_object);
  v_is_unwanted constant boolean := p_kind = 'view'
    and exists (select 1 from lull.settings s where s.name = 'seed-views' and s.value = 'false');
begin
  -- A name of Lull's can be dropped and used again: then it is not Lull's any more.
  if v_is_unwanted or v_object is not null and not v_is_ours then
    delete from lull.objects where identity = p_identity;
  end if;
  if v_is_unwanted then
    if v_is_ours then
      execute format('drop view %s', p_identity);
      raise notice 'dropped the view %, which was Lull''s', p_identity;
    end if;
    return;
  elsif v_object is not null and not v_is_ours then
    raise notice '% exists and was left alone. Lull''s % of that name was not created: %.',
      p_identity, p_kind, 'rename yours and migrate again, or keep yours' ||
      case when p_kind = 'view' then ' and tie it in with lull.adopt_sessions() or lull.adopt()' else '' end;
    return;
  end if;
  execute p_ddl;
  execute format('comment on %s %s is %L', p_kind, p_identity, c_mark);
  v_object := case p_kind when 'function' then to_regprocedure(p_identity)::oid else to_regclass(p_identity)::oid end;
  insert into lull.objects (kind, identity, fingerprint)
  values (p_kind, p_identity, lull.object_fingerprint(p_kind, v_object))
  on conflict (identity) do update set fingerprint = excluded.fingerprint;
end
$$;
