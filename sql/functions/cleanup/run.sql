-- Cleanup, the run.
--
--   lull_preview_cleanup   the dry run: what each policy would take, and whether the breaker would stop it
--     (preview.sql)
--   lull_begin_cleanup     take the lease, freeze `at`, compare the policies with those stored, open a line for each
--     (stored_policies.sql)
--   lull_open_policy       freeze a policy's cutoff, preview it, let the breaker decide (open_policy.sql)
--   lull_cleanup_lane      one transaction: select, lock, archive, delete, count
--     (batches.sql)
--   lull_skip_lane_row     step over one row that a batch of one could not finish in time
--     (skipped_rows.sql)
--   lull_claim_file_removals, lull_settle_file_removals   the outbox of bytes
--     (file_removals.sql)
--   lull_finish_cleanup    close the run and return its report
--   lull_restore_run       bring back what a run archived
--   lull_cleanup_step      all of it for pg_cron, a bounded step at a time
--     (pg_cron.sql)
--
-- A run acts only with its id and lease token; each batch proves them again as its last statement, so that a run that
-- lost its lease commits nothing more. Policies and the selection of stale rows are in cleanup/policies.sql.

-- Take the lease. One run at a time: while another holds it, or while cleanup is paused, nothing is changed and
-- {"started": false, "reason", "since", "run_id", "message"} is returned. A run whose lease ran out becomes
-- `abandoned`. The database's now is taken once, here, and is the run's `at`. A policy that is not stored, or looser
-- than it is stored, fails before anything of it is touched.
--   p_only, p_max_rows   one policy, and how many of its rows may pass the breaker this once
--   p_key                with both: this row alone, whatever hangs below it (up to p_max_rows rows)
create or replace function public.lull_begin_cleanup(
  p_policies jsonb, p_caller text, p_lease_seconds integer, p_only text default null, p_max_rows bigint default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select lull.begin_run(p_policies, p_caller, p_lease_seconds, p_only, p_max_rows, null);
$$;

-- The same for one row of a policy.
create or replace function public.lull_begin_row_cleanup(
  p_policies jsonb, p_caller text, p_lease_seconds integer, p_only text, p_max_rows bigint, p_key text)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select lull.begin_run(p_policies, p_caller, p_lease_seconds, p_only, p_max_rows, p_key);
$$;

-- Refuse arguments of a run that do not go together (422).
create or replace function lull.check_run_arguments(
  p_policies jsonb, p_lease_seconds integer, p_only text, p_max_rows bigint, p_key text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_lease_seconds is null or p_lease_seconds < 1 then
    perform lull.refuse(422, 'invalid-parameter', 'The lease must be at least one second.');
  elsif p_only is not null
    and not p_policies @> jsonb_build_array(jsonb_build_object('name', split_part(p_only, ':', 1))) then
    perform lull.refuse(422, 'invalid-parameter', format('There is no policy "%s".', p_only));
  elsif p_max_rows is not null and p_only is null then
    perform lull.refuse(422, 'invalid-parameter', 'A limit on rows goes with one policy.');
  elsif p_key is not null and p_max_rows is null then
    perform lull.refuse(422, 'invalid-parameter', 'A key goes with one policy and a limit on rows.');
  end if;
end
$$;

-- The same for a run that only watches: each policy is counted as by a dry run and stored, and nothing is deleted.
create or replace function public.lull_begin_shadow(p_policies jsonb, p_caller text, p_lease_seconds integer,
  p_only text default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select lull.begin_run(p_policies, p_caller, p_lease_seconds, p_only, null, null, p_shadow => true);
$$;

-- What lull_begin_cleanup does, under its settings. p_shadow: only watch.
create or replace function lull.begin_run(
  p_policies jsonb, p_caller text, p_lease_seconds integer, p_only text, p_max_rows bigint, p_key text,
  p_shadow boolean default false)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run lull.cleanup_runs;
  v_pause lull.switches;
  v_lease record;
  v_bound jsonb;
begin
  perform lull.check_run_arguments(p_policies, p_lease_seconds, p_only, p_max_rows, p_key);
  select * into v_pause from lull.pauses() where name in ('cleanup', 'cleanup:' || split_part(p_only, ':', 1))
  order by name limit 1;
  if found then
    update lull.switches set called_at = now() where name = v_pause.name and p_only is null;
    return jsonb_build_object('started', false, 'reason', 'paused', 'since', v_pause.changed_at, 'run_id', null,
      'message', format('Cleanup%s is %s. Nothing was changed.',
        coalesce(' of ' || nullif(substr(v_pause.name, 9), ''), ''), lull.pause_words(v_pause)));
  end if;
  select * into v_lease from lull.take_lease(p_caller, p_lease_seconds);
  if v_lease.o_refusal is not null then
    return v_lease.o_refusal;
  end if;
  v_run := v_lease.o_run;

  if not p_shadow then
    perform lull.prepare_run();
    perform lull.move_older_archive(1000);
  end if;
  v_bound := lull.bound_policies(p_policies);
  perform lull.store_ages(v_bound);
  perform lull.add_lines(v_run.id, v_bound, p_only, p_max_rows, p_key);
  update lull.cleanup_runs
  set mode = case when p_shadow then 'shadow' else 'run' end, whole = p_only is null
  where id = v_run.id and (p_shadow or p_only is not null);
  perform lull.note_neglected(), lull.fold_history();

  return jsonb_build_object('started', true, 'run_id', v_run.id, 'token', v_run.token, 'at', v_run.at,
    'policies', (select coalesce(jsonb_agg(policy order by position), '[]')
      from lull.cleanup_run_policies where run_id = v_run.id and outcome = 'pending'),
    'failed', (select coalesce(jsonb_agg(jsonb_build_object('policy', policy, 'error', error)), '[]')
      from lull.cleanup_run_policies where run_id = v_run.id and outcome = 'failed'));
end
$$;

-- Give a run its lines: each policy, and one for each adopted table that it is about, those first that were opened
-- longest ago. Those of a policy that was refused have failed. p_only is a policy or one line of it.
create or replace function lull.add_lines(
  p_run uuid, p_bound jsonb, p_only text, p_max_rows bigint, p_key text)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into lull.cleanup_run_policies (
    run_id, policy, position, definition, allowed, only_key, adoption, outcome, error, stop_reason,
    completed_at)
  select p_run, l.name, row_number() over (order by l.last nulls first, l.n, l.line), l.definition,
    case when p_only is not null then p_max_rows end, p_key, lull.adoption_of(l.target),
    case when w.name is not null then 'paused' when l.refusal is null then 'pending' else 'failed' end, l.refusal,
    lull.pause_words(w), case when l.refusal is not null or w.name is not null then clock_timestamp() end
  from (
    select d.name, d.target, x.n, d.line, x.e ->> 'refusal' as refusal, lull.definition_json(row(
      d.name, d.position, d.target, d.clock, d.equals, d.nulls, d.age, d.archive, d.restore_window, d.max_rows,
      d.growth_factor, d.growth_floor, d.max_percent, d.max_cascaded, d.warn_before, d.reason, d.below, d.also_clocks,
      d.max_below_root, d.max_below_bytes, d.base)::lull.policy_definition) as definition,
      (select max(c.opened_at) from lull.cleanup_run_policies c where c.policy = d.name) as last
    from jsonb_array_elements(p_bound) with ordinality x (e, n)
    cross join lateral lull.policy_lines(lull.read_definition(x.e -> 'definition', x.n::integer)) with ordinality d (
      name, position, target, clock, equals, nulls, age, archive, restore_window, max_rows, growth_factor, growth_floor,
      max_percent, max_cascaded, warn_before, reason, below, also_clocks, max_below_root, max_below_bytes, base, line)
    where p_only is null or p_only in (x.e -> 'definition' ->> 'name', d.name)
  ) l
  left join lull.pauses() w on w.name = 'cleanup:' || split_part(l.name, ':', 1)
  where p_key is null or l.name = p_only;
$$;

-- Close the run: policies that failed outside the database (p_failures: {policy: sentence}), those that time left
-- unfinished, and the run itself; p_files is what became of the bytes. Returns the report, also
-- when called again. Needs the lease.
create or replace function public.lull_finish_cleanup(p_run uuid, p_token uuid, p_failures jsonb, p_files jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
set timezone = 'UTC'
as $$
begin
  perform lull.require_server();
  if exists (
    select 1 from lull.cleanup_runs
    where id = p_run and token = p_token and status not in ('running', 'abandoned')
  ) then
    return lull.run_report(p_run);  -- finished before; the answer was lost
  end if;
  perform lull.check_lease(p_run, p_token);
  update lull.cleanup_run_policies
  set outcome = case when p_failures ? policy then 'failed' when skipped_count > 0 then 'failed' else 'partial' end,
    error = coalesce(p_failures ->> policy, case when skipped_count > 0 then
      format('%s rows could not be deleted and left as before', skipped_count) end),
    completed_at = clock_timestamp()
  where run_id = p_run and outcome in ('pending', 'open');
  update lull.cleanup_runs
  set status = (
      select case
        when bool_or(outcome = 'failed') then 'failed'
        when bool_or(outcome = 'stopped') then 'stopped'
        when bool_or(outcome = 'partial' or outcome = 'paused' and opened_at is not null) then 'partial'
        else 'completed'
      end
      from lull.cleanup_run_policies where run_id = p_run),
    finished_at = clock_timestamp(),
    files = coalesce(p_files, '{}') || jsonb_build_object(
      'queued', (select count(*) from lull.file_removals where dead_at is null),
      'dead', (select count(*) from lull.file_removals where dead_at is not null))
  where id = p_run and token = p_token and status = 'running';
  if not found then
    perform lull.check_lease(p_run, p_token);
  end if;
  perform lull.note_backlog(p_run), lull.count_run(p_run);
  return lull.run_report(p_run);
end
$$;

-- What a run did, policy by policy, in the order of its work.
create or replace function lull.run_report(p_run uuid)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'run_id', r.id, 'mode', r.mode, 'caller', r.caller, 'at', r.at, 'started_at', r.started_at,
    'finished_at', r.finished_at,
    'duration_ms', round((extract(epoch from r.finished_at - r.started_at) * 1000)::numeric),
    'status', r.status, 'files', r.files,
    'policies', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'policy', coalesce(p.definition ->> 'base', p.policy), 'line', p.policy, 'target', p.definition -> 'target',
        'table', case when p.definition ->> 'base' is not null then p.definition -> 'target' end,
        'cutoff', p.cutoff, 'would', p.would,
        'capped', p.capped, 'did', p.did, 'cascaded', p.cascaded, 'files', p.files, 'batches', p.batches,
        'ms', round(p.ms::numeric, 1), 'outcome', p.outcome, 'stop_reason', p.stop_reason, 'error', p.error,
        'skipped_rows', p.skipped, 'busy', p.busy_count, 'kept_rows', p.kept, 'kept', p.kept_count,
        'elsewhere', p.elsewhere,
        'next_run', case when p.outcome = 'partial' then coalesce(p.stop_reason, lull.next_run_of(p, now())) end,
        'pacing',
        case when p.pacing ? 'samples' then (p.pacing - '{samples,load}'::text[]) || jsonb_build_object(
          'others', round((p.pacing ->> 'others')::numeric / (p.pacing ->> 'samples')::integer, 2)) end,
        'has_more', p.outcome in ('partial', 'stopped')) order by p.position), '[]')
      from lull.cleanup_run_policies p where p.run_id = r.id))
  from lull.cleanup_runs r
  where r.id = p_run;
$$;
