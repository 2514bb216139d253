-- Cleanup, the backlog and the totals: what runs leave, and what all of them did.

-- Store what a policy left when its run ended: rows that are stale and were not deleted. A run that deleted everything
-- left what was busy or refused. Not known (null) for policies that were paused, only watched, or never opened.
create or replace function lull.note_backlog(p_run uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.cleanup_run_policies l
  set backlog = case l.outcome
      when 'completed' then l.busy_count + l.skipped_count
      else greatest(l.would - l.did - l.kept_count, l.busy_count + l.skipped_count) end,
    backlog_oldest = case when l.outcome <> 'completed' then greatest(l.would_oldest, (
      select min(c.cursor_clock) from lull.cleanup_lanes c where c.run_id = p_run and c.policy = l.policy)) end
  where l.run_id = p_run and l.outcome not in ('pending', 'open', 'paused', 'shadow') and l.opened_at is not null;
$$;

-- Store the oldest stale row of each policy that no run has included: by it alerts judge whether the policy is
-- neglected. A policy that cannot be asked, or only by reading its whole table, has none.
create or replace function lull.note_neglected()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_policy lull.policy_definition;
  v_oldest timestamptz;
  v_selection text;
begin
  for v_policy in
    select l.* from jsonb_array_elements(lull.effective_policies()) with ordinality x (p, n)
    cross join lateral lull.read_definition(x.p, x.n::integer) l
    where not exists (select 1 from lull.cleanup_run_policies c where c.policy = l.name)
  loop
    v_oldest := null;
    begin
      v_selection := lull.stale_selection(v_policy, now() - v_policy.age);
      if lull.has_selection_index(v_policy, v_selection) then
        execute format('select t.%I from %s limit 1', v_policy.clock, v_selection) into v_oldest;
      end if;
    exception when others then
      raise warning 'whether the policy % is neglected is unknown: %', v_policy.name, sqlerrm;
    end;
    update lull.policies_known set oldest = v_oldest where policy = v_policy.name and oldest is distinct from v_oldest;
  end loop;
end
$$;

-- Add a run that is over to the totals. Called once for each, by finish and by the begin that abandons it.
create or replace function lull.count_run(p_run uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into lull.counts as c (metric, policy, label, n)
  select 'runs', '', r.status, 1 from lull.cleanup_runs r where r.id = p_run and r.mode = 'run'
  union all
  select 'deleted', split_part(l.policy, ':', 1), x.tab, sum(x.n)
  from lull.cleanup_run_policies l
  cross join lateral (
    select l.definition ->> 'target' as tab, l.did as n
    union all
    select b.key, b.value::bigint from jsonb_each_text(l.below_counts) b
  ) x
  where l.run_id = p_run and x.n > 0 group by 2, 3
  on conflict (metric, policy, label) do update set n = c.n + excluded.n;
$$;

-- Add restores that are older than a quarter to the totals, and delete them and shadow rows that old. At most 10,000 of
-- each a run.
create or replace function lull.fold_history()
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  with old as (
    delete from lull.restores where id = any (array(
      select id from lull.restores where restored_at < now() - interval '100 days' order by id limit 10000))
    returning policy, rows
  )
  insert into lull.counts as c (metric, policy, label, n)
  select 'restored', split_part(o.policy, ':', 1), '', sum(o.rows) from old o group by 2
  on conflict (metric, policy, label) do update set n = c.n + excluded.n;
  delete from lull.shadow_rows where ctid = any (array(
    select ctid from lull.shadow_rows where noted_at < now() - interval '100 days' limit 10000));
$$;

-- The backlog of each policy now: stale rows, exact up to 10,000 a line, and the clock of the oldest: {"policies":
-- [{"policy", "rows", "oldest", "due" (since when the oldest is stale)}]}. From 10,000 on, what the newest run left
-- counts if that is more. A policy that does not fit its table is left out.
create or replace function public.lull_backlog()
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_policy lull.policy_definition;
  v_line record;
  v_lines jsonb := '[]';
begin
  for v_policy in
    select l.* from jsonb_array_elements(lull.effective_policies()) with ordinality x (p, n)
    cross join lateral lull.policy_lines(lull.read_definition(x.p, x.n::integer)) l
  loop
    begin
      execute format(
        'select count(*) as rows, min(x.clock) as oldest from (select t.%I as clock from %s limit 10000) x',
        v_policy.clock, lull.stale_selection(v_policy, now() - v_policy.age))
      into v_line;
      v_lines := v_lines || jsonb_build_object('policy', coalesce(v_policy.base, v_policy.name),
        'rows', case when v_line.rows < 10000 then v_line.rows else greatest(v_line.rows, (
          select c.backlog from lull.cleanup_run_policies c
          where c.policy = v_policy.name and c.outcome not in ('pending', 'open') and c.backlog is not null
          order by c.completed_at desc limit 1)) end,
        'oldest', v_line.oldest, 'due', v_line.oldest + v_policy.age);
    exception when others then
      raise warning 'the backlog of the policy % is unknown: %', v_policy.name, sqlerrm;
    end;
  end loop;
  return jsonb_build_object('policies', (
    select coalesce(jsonb_agg(to_jsonb(x) order by x.policy), '[]')
    from (
      select l.policy, sum(l.rows) as rows, min(l.oldest) as oldest, min(l.due) as due
      from jsonb_to_recordset(v_lines) l (policy text, rows bigint, oldest timestamptz, due timestamptz)
      group by l.policy
    ) x));
end
$$;

-- Settle what was given up: try again, or say that no one needs it (p_forget). Files that are forgotten stay in
-- Storage; the answer names them. Returns {"files": how many, "events", "paths": [up to 100 "bucket/path"]}.
create or replace function public.lull_settle_dead_letters(p_forget boolean default false)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '8s'
set lock_timeout = '5s'
as $$
declare
  v_server constant name := lull.require_server();
  v_files text[] := array(select bucket || '/' || path from lull.file_removals where dead_at is not null order by id);
  v_events bigint;
begin
  if p_forget then
    delete from lull.file_removals where dead_at is not null;
    update lull.deliveries set acknowledged_at = now() where state = 'dead' and acknowledged_at is null;
  else
    update lull.file_removals set dead_at = null, attempts = 0, claimed_by = null where dead_at is not null;
    update lull.deliveries
    set state = 'queued', attempts = 0, due_at = now(), first_tried_at = null, settled_at = null
    where state = 'dead' and acknowledged_at is null;
  end if;
  get diagnostics v_events = row_count;
  return jsonb_build_object('files', cardinality(v_files), 'events', v_events, 'paths', v_files[:100]);
end
$$;
