-- Cleanup, what a run does before its policies: companions are compared with their rows, queued erasures are done.

-- Called by begin, after the lease. Never raises: what fails is a warning, and is tried again by the next run.
create or replace function lull.prepare_run()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
begin
  for v_target in
    select * from lull.targets g
    where g.kind is not null and exists (select 1 from lull.sessions where companion_of = g.name)
  loop
    begin
      perform lull.mark_companions(v_target);
    exception when others then
      raise warning 'the companions of % were not compared with its rows: %', v_target.name, sqlerrm;
    end;
  end loop;
  perform lull.erase_queued();
end
$$;

-- Note which companions have their row, and since when it is missing. Only what changed is written.
create or replace function lull.mark_companions(p_target lull.targets)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format(
    'update lull.sessions c set row_seen_at = coalesce(c.row_seen_at, now()), row_missing_since = null
     from %s t
     where t.%I = c.id and %s and (c.row_seen_at is null or c.row_missing_since is not null)',
    p_target.name, p_target.key_columns[1], lull.companion_condition(p_target));
  execute format(
    'update lull.sessions c set row_missing_since = now()
     where c.companion_of = %L and c.row_seen_at is not null and c.row_missing_since is null
       and not exists (select 1 from %s t where t.%I = c.id)',
    p_target.name, p_target.name, p_target.key_columns[1]);
end
$$;
