-- Cleanup, the list of runs: what each did or, in shadow mode, would have done, and how far one in flight is.

-- Runs, newest first, of one status or all, behind the cursor {"at", "id"}: {"runs": [...], "next"}. A run has its
-- totals; lull_show_run has its policies.
create or replace function public.lull_list_runs(
  p_limit integer default 20, p_cursor jsonb default null, p_status text default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_found jsonb;
  v_next jsonb;
begin
  perform lull.note_returns();
  select coalesce(jsonb_agg(lull.run_summary(r) order by r.started_at desc, r.id desc), '[]') into v_found
  from (
    select * from lull.cleanup_runs c
    where (p_status is null or c.status = p_status)
      and (p_cursor is null
        or (c.started_at, c.id) < ((p_cursor ->> 'created_at')::timestamptz, (p_cursor ->> 'id')::uuid))
    order by c.started_at desc, c.id desc limit p_limit + 1
  ) r;
  if jsonb_array_length(v_found) > p_limit then
    v_found := v_found - p_limit;
    v_next := jsonb_build_object('created_at', v_found -> -1 -> 'started_at', 'id', v_found -> -1 -> 'id');
  end if;
  return jsonb_build_object('runs', v_found, 'next', v_next);
end
$$;

-- One run: its summary, its policies as in its report, with what came back of each, and of one in flight "progress":
-- {"policies_done", "policies", "rows_done", "rows_expected" (of opened policies), "policy" (open now), "lease_until",
-- "seconds"}. 404 when there is none.
create or replace function public.lull_show_run(p_run uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_run lull.cleanup_runs;
begin
  select * into v_run from lull.cleanup_runs where id = p_run;
  if not found then
    perform lull.refuse(404, 'not-found', format('There is no run %s.', p_run));
  end if;
  perform lull.note_returns();
  return jsonb_build_object('run', lull.run_summary(v_run), 'lines', (
      select coalesce(jsonb_agg(e.line || jsonb_build_object(
        'would_cascade', l.would_cascade, 'would_files', l.would_files, 'oldest', l.would_oldest,
        'restored', (select coalesce(sum(r.roots), 0) from lull.restores r
          where r.run_id = p_run and r.policy = l.policy),
        'returned', case v_run.mode when 'shadow' then (
          select count(s.returned_at) from lull.shadow_rows s where s.run_id = p_run and s.policy = l.policy) end)
        order by e.n), '[]')
      from jsonb_array_elements(lull.run_report(p_run) -> 'policies') with ordinality e (line, n)
      join lull.cleanup_run_policies l on l.run_id = p_run and l.policy = e.line ->> 'line'),
    'file_removals', v_run.files, 'progress', case v_run.status when 'running' then lull.run_progress(v_run) end);
end
$$;
