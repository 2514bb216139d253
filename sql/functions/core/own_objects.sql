-- What is Lull's: how an object in public is told from another one of its name, and how the migration state survives a
-- dump without rows. Used by sql/migration_state.sql, views.sql and grants.sql.

-- What tells an object of Lull's from another one of its name, where its comment was lost (pg_dump --no-comments): the
-- body of a function; the columns of a view that reads only tables of Lull's. Null for any other view.
create or replace function lull.object_fingerprint(p_kind text, p_object oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case p_kind
    when 'function' then (select md5(p.prosrc) from pg_catalog.pg_proc p where p.oid = p_object)
    else (
      select md5(string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum))
      from pg_catalog.pg_class c
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.oid = p_object and c.relkind = 'v' and not exists (
        select 1
        from pg_catalog.pg_rewrite w
        join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = w.oid
        join pg_catalog.pg_class r on r.oid = d.refobjid and d.refclassid = 'pg_catalog.pg_class'::regclass
        where w.ev_class = p_object and r.oid <> p_object and r.relnamespace <> 'lull'::regnamespace))
  end;
$$;

-- Whether an object is Lull's: it carries the comment that says so; or it has none, lull.objects names it, and it is as
-- Lull made it. A row of a release that kept no fingerprint vouches for a function that calls Lull or serves one of
-- its triggers, and for a view that reads only Lull's tables.
create or replace function lull.is_ours(p_kind text, p_identity text, p_object oid)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_comment text := obj_description(p_object, case p_kind when 'function' then 'pg_proc' else 'pg_class' end);
  v_object lull.objects;
  v_fingerprint text := lull.object_fingerprint(p_kind, p_object);
begin
  if v_comment is not null then
    return v_comment = 'Made by Lull, and replaced on each deploy.';
  end if;
  select * into v_object from lull.objects o where o.identity = p_identity;
  if not found or v_fingerprint is null then
    return false;
  elsif v_object.fingerprint is not null or p_kind = 'view' then
    return coalesce(v_object.fingerprint, v_fingerprint) = v_fingerprint;
  end if;
  return (select p.prosrc ~ '\mlull[._]' from pg_catalog.pg_proc p where p.oid = p_object)
    or exists (
      select 1 from pg_catalog.pg_trigger t
      where t.tgfoid = p_object and t.tgname = 'update_participant_last_seen');
end
$$;

-- Write the rows that the migrations made, and what Lull created in public, into the body of lull.kept_state(): there
-- they survive a dump without rows. Called last in each migration.
create or replace function lull.keep_state()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_state jsonb := jsonb_build_object(
    'migrations', (select jsonb_agg(to_jsonb(m) - 'applied_at' order by m.name) from lull.migrations m),
    'objects', (select jsonb_agg(to_jsonb(o) - 'created_at' order by o.identity) from lull.objects o),
    'settings', (select coalesce(jsonb_agg(to_jsonb(s) order by s.name), '[]') from lull.settings s),
    'targets', (select jsonb_agg(to_jsonb(t) - '{adopted_at,relation,version}'::text[] order by t.name)
      from lull.targets t where t.builtin));
begin
  execute format('create or replace function lull.kept_state() returns jsonb language sql immutable %s as %L',
    'set search_path = pg_catalog, pg_temp', format('select %L::jsonb', v_state::text));
end
$$;
