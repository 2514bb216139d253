-- Lull, taken out of a database: run this whole file at once. What Lull made goes: its functions and views in public, its
-- schema with sessions, log and archive. Nothing else is dropped or changed: what refers to Lull from outside is named,
-- and then nothing happens until it is gone.
--
-- While the archive holds rows that can be restored, it stops. To let them go too, run this before, in the same session:
--   select set_config('lull.discard_archive', 'yes', false);
begin;
set local search_path = pg_catalog, pg_temp;
set local lock_timeout = '5s';

do $lull_uninstall$
declare
  v_reasons text;
  v_archived bigint := 0;
  v_object record;
  v_functions oid[];
  v_views oid[];
begin
  if to_regclass('lull.migrations') is null then
    raise exception 'There is no Lull in this database. Nothing was changed.';
  end if;
  v_functions := array(
    select case o.kind when 'function' then to_regprocedure(o.identity)::oid end from lull.objects o);
  v_views := array(select case o.kind when 'view' then to_regclass(o.identity)::oid end from lull.objects o);
  with outside (what, statement) as (
    select format('the foreign key %s of %s', f.conname, f.conrelid::regclass),
      format('alter table %s drop constraint %I;', f.conrelid::regclass, f.conname)
    from pg_constraint f
    join pg_class p on p.oid = f.confrelid
    join pg_class c on c.oid = f.conrelid
    where f.contype = 'f' and f.conparentid = 0 and p.relnamespace = 'lull'::regnamespace
      and c.relnamespace <> 'lull'::regnamespace
    union all
    select format('the trigger %s of %s', t.tgname, t.tgrelid::regclass),
      format('drop trigger %I on %s;', t.tgname, t.tgrelid::regclass)
    from pg_trigger t
    join pg_proc p on p.oid = t.tgfoid
    join pg_class c on c.oid = t.tgrelid
    where not t.tgisinternal and c.relnamespace <> 'lull'::regnamespace and (
      p.pronamespace = 'lull'::regnamespace
      or p.oid = any (v_functions))
    union all
    select distinct format('the view %s', v.oid::regclass), format('drop view %s;', v.oid::regclass)
    from pg_depend d
    join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
    join pg_class v on v.oid = r.ev_class
    where v.relnamespace <> 'lull'::regnamespace and d.refobjid <> v.oid
      and not coalesce(v.oid = any (v_views), false)
      and (d.refclassid = 'pg_class'::regclass and exists (
          select 1 from pg_class c where c.oid = d.refobjid and (c.relnamespace = 'lull'::regnamespace
            or c.oid = any (v_views)))
        or d.refclassid = 'pg_proc'::regclass and exists (
          select 1 from pg_proc p where p.oid = d.refobjid and (p.pronamespace = 'lull'::regnamespace
            or p.oid = any (v_functions))))
  )
  select string_agg(what || ': ' || statement, E'\n' order by what) into v_reasons from outside;
  if v_reasons is not null then
    raise exception E'Something of yours refers to Lull. Nothing was changed. Remove it, then run this again:\n%',
      v_reasons;
  end if;

  if coalesce(current_setting('lull.discard_archive', true), '') <> 'yes' then
    if to_regclass('lull.archive') is not null then
      execute 'select count(*) from lull.archive where purge_after > now()' into v_archived;
    end if;
    if to_regclass('lull.archive_pages') is not null then
      execute 'select $1 + coalesce(sum(rows), 0) from lull.archive_pages where purge_after > now()'
      into v_archived using v_archived;
    end if;
    if v_archived > 0 then
      raise exception 'The archive holds % rows that can still be restored. Nothing was changed. %', v_archived,
        'Restore them, or let them go: --discard-archive (SQL: select set_config(''lull.discard_archive'', ''yes'', false)).';
    end if;
  end if;

  for v_object in
    select o.kind, o.identity from lull.objects o
    where case o.kind when 'function' then to_regprocedure(o.identity) is not null
      else to_regclass(o.identity) is not null end
    order by o.kind
  loop
    -- A name that was dropped and taken again is not Lull's: what Lull installed under the seeds' names carries a mark.
    if v_object.identity not like 'public.lull\_%' and coalesce(obj_description(
      case v_object.kind when 'function' then to_regprocedure(v_object.identity)::oid
        else to_regclass(v_object.identity)::oid end,
      case v_object.kind when 'function' then 'pg_proc' else 'pg_class' end), '')
      <> 'Made by Lull, and replaced on each deploy.'
    then
      raise notice '% was left alone: Lull did not make it.', v_object.identity;
      continue;
    end if;
    if v_object.kind = 'function' and v_object.identity like '%update_participant_last_seen%' then
      drop trigger if exists update_participant_last_seen on lull.session_participants;
    end if;
    execute format('drop %s %s', v_object.kind, v_object.identity);
  end loop;
  drop schema lull cascade;  -- nothing outside it depends on it: see above
  raise notice 'Lull is gone from this database. Left are: the bytes of files in Storage, jobs of pg_cron that call it, %',
    'the schedule and the variables of its deployment.';
end
$lull_uninstall$;

notify pgrst, 'reload schema';
commit;
