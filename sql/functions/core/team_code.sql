-- Core: statements in which code of a team's may run (triggers, defaults, checks). They are fully qualified, operators
-- too, and run under the team's search path.

-- The search path under which a team's code runs: the one stored when the target was adopted, else the one that a new
-- session has; pg_temp last.
create or replace function lull.team_path(p_target lull.targets)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    nullif(to_jsonb(p_target) ->> 'search_path', ''),
    (select nullif(reset_val, '') from pg_catalog.pg_settings where name = 'search_path'), '"$user", public')
    || ', pg_temp';
$$;

-- Run a statement under a search path. $1: places.
create or replace function lull.run_for_team(p_path text, p_statement text, p_ctids tid[] default '{}')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = auto
as $$
begin
  perform set_config('search_path', p_path, true);
  execute p_statement using p_ctids;
end
$$;

-- Run a statement over archived rows ($1) under a search path. Returns how many rows it wrote.
create or replace function lull.run_rows_for_team(p_path text, p_statement text, p_rows lull.archived_row[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = auto
as $$
declare
  v_count bigint;
begin
  perform set_config('search_path', p_path, true);
  execute p_statement using p_rows;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

-- Whether triggers or rules that are not Lull's or a foreign key's run when rows of these tables are written.
create or replace function lull.has_team_triggers(p_relations oid[])
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select 1 from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = any (p_relations) and not t.tgisinternal and t.tgenabled <> 'D'
      and p.pronamespace <> 'lull'::regnamespace
      and not exists (select 1 from lull.objects o
        where case o.kind when 'function' then to_regprocedure(o.identity)::oid end = p.oid)
  ) or exists (select 1 from pg_catalog.pg_class c where c.oid = any (p_relations) and c.relhasrules);
$$;

-- The deferrable constraints of tables and of what refers to them, by qualified name: whether each is deferred at
-- first, and whether it is a foreign key or a team's own trigger instead of a unique or exclusion constraint. `set
-- constraints` knows constraints by schema and name only.
create or replace function lull.deferrable_constraints(p_tables oid[])
returns table (name text, deferred boolean, is_link boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', s.nspname, f.conname), bool_or(f.condeferred), bool_and(f.contype in ('f', 't'))
  from pg_catalog.pg_constraint f
  join pg_catalog.pg_namespace s on s.oid = f.connamespace
  where f.condeferrable and (f.conrelid = any (p_tables) or f.confrelid = any (p_tables))
  group by 1;
$$;

-- Defer constraints, each by itself: a name may also be that of one that is not deferrable.
create or replace function lull.defer_constraints(p_names text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
begin
  foreach v_name in array p_names loop
    begin
      execute format('set constraints %s deferred', v_name);
    exception when wrong_object_type then
      null;
    end;
  end loop;
end
$$;
