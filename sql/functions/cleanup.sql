-- Cleanup, the run.
--
--   lull_preview_cleanup   the dry run: what each policy would take, and whether the breaker would stop it   (_preview)
--   lull_begin_cleanup     take the lease, freeze `at`, store the effective policies, open a line for each
--   lull_open_policy       freeze a policy's cutoff, preview it, let the breaker decide
--   lull_cleanup_lane      one transaction: select, lock, archive, delete, count                             (_batches)
--   lull_skip_lane_row     step over one row that a batch of one could not finish in time                    (_skips)
--   lull_claim_file_removals, lull_settle_file_removals   the outbox of bytes                                (_files)
--   lull_finish_cleanup    close the run and return its report
--   lull_restore_run       bring back what a run archived
--   lull_cleanup_step      all of it for pg_cron, a bounded step at a time                                   (_steps)
--
-- A run acts only with its id and lease token; each batch proves them again as its last statement, so that a run that
-- lost its lease commits nothing more. Policies and the selection of stale rows are in cleanup_policies.sql.

-- Take the lease. One run at a time: while another holds it, or while cleanup is paused, nothing is changed and
-- {"started": false, "reason", "since", "run_id", "message"} is returned. A run whose lease ran out becomes
-- `abandoned`. The database's now is taken once, here, and is the run's `at`.
create or replace function public.lull_begin_cleanup(
  p_policies jsonb, p_caller text, p_lease_seconds integer, p_only text default null, p_max_rows bigint default null)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '10s'
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  v_running lull.cleanup_runs;
  v_run lull.cleanup_runs;
  v_switch lull.switches;
  v_failed jsonb;
begin
  if p_lease_seconds is null or p_lease_seconds < 1 then
    perform lull.refuse(422, 'invalid-parameter', 'The lease must be at least one second.');
  elsif p_only is not null and not p_policies @> jsonb_build_array(jsonb_build_object('name', p_only)) then
    perform lull.refuse(422, 'invalid-parameter', format('There is no policy "%s".', p_only));
  elsif p_max_rows is not null and p_only is null then
    perform lull.refuse(422, 'invalid-parameter', 'A limit on rows goes with one policy.');
  end if;
  select * into v_switch from lull.switches where name = 'cleanup' and is_on;
  if found then
    return jsonb_build_object('started', false, 'reason', 'paused', 'since', v_switch.changed_at, 'run_id', null,
      'message', format('Cleanup is paused since %s%s. Nothing was changed.',
        lull.utc(v_switch.changed_at), coalesce(': ' || v_switch.reason, '')));
  end if;
  loop
    select * into v_running from lull.cleanup_runs where status = 'running';
    if found and v_running.lease_until > clock_timestamp() then
      return jsonb_build_object('started', false, 'reason', 'running', 'since', v_running.started_at,
        'run_id', v_running.id, 'message', format(
          'Run %s is already running since %s. This call changed nothing.',
          v_running.id, lull.utc(v_running.started_at)));
    end if;
    -- Waits for a batch that is about to renew the lease; renewed, it is not abandoned.
    update lull.cleanup_runs
    set status = 'abandoned', finished_at = clock_timestamp()
    where status = 'running' and lease_until <= clock_timestamp();
    begin
      insert into lull.cleanup_runs (caller, at, lease_seconds, lease_until)
      values (p_caller, now(), p_lease_seconds, clock_timestamp() + make_interval(secs => p_lease_seconds))
      returning * into v_run;
      exit;
    exception
      when unique_violation then
        null;  -- another begin was first: look again
      when lock_not_available then
        return jsonb_build_object('started', false, 'reason', 'running', 'since', now(), 'run_id', null,
          'message', 'Another run is under way in a transaction of its own. This call changed nothing.');
    end;
  end loop;

  v_failed := lull.apply_policies(p_policies, p_lenient => true);
  insert into lull.cleanup_run_policies (run_id, policy, position, definition, allowed, outcome, error, completed_at)
  select v_run.id, p.name, p.n, p.definition, case when p.name = p_only then p_max_rows end,
    case when f.error is null then 'pending' else 'failed' end, f.error,
    case when f.error is not null then clock_timestamp() end
  from (
    select e ->> 'name' as name, n as position, e as definition, row_number() over (order by l.last nulls first, n) as n
    from jsonb_array_elements(p_policies) with ordinality x (e, n)
    left join lateral (
      select max(opened_at) as last from lull.cleanup_run_policies c where c.policy = e ->> 'name'
    ) l on true
    where p_only is null or e ->> 'name' = p_only
  ) p
  left join jsonb_to_recordset(v_failed) as f (policy text, error text) on f.policy = p.name;

  return jsonb_build_object('started', true, 'run_id', v_run.id, 'token', v_run.token, 'at', v_run.at,
    'policies', (select coalesce(jsonb_agg(policy order by position), '[]')
      from lull.cleanup_run_policies where run_id = v_run.id and outcome = 'pending'),
    'failed', (select coalesce(jsonb_agg(jsonb_build_object('policy', policy, 'error', error)), '[]')
      from lull.cleanup_run_policies where run_id = v_run.id and outcome = 'failed'));
end
$$;

-- A time as a person reads it.
create or replace function lull.utc(p_at timestamptz)
returns text
language sql
stable
set search_path = ''
as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
$$;

-- Prove that the caller still holds the lease, without waiting or locking. Raises 409 `lease-lost`.
create or replace function lull.check_lease(p_run uuid, p_token uuid)
returns lull.cleanup_runs
language plpgsql
set search_path = ''
as $$
declare
  v_run lull.cleanup_runs;
begin
  select * into v_run from lull.cleanup_runs
  where id = p_run and token = p_token and status = 'running' and lease_until > clock_timestamp();
  if not found then
    perform lull.refuse(409, 'lease-lost',
      format('Run %s does not hold the lease any more. This call changed nothing.', p_run));
  end if;
  return v_run;
end
$$;

-- Prove the lease again and renew it. The last statement of every transaction of a run: a run that was taken over
-- meanwhile fails here and commits nothing. Locks the run's row only until the commit that follows.
create or replace function lull.renew_lease(p_run uuid, p_token uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update lull.cleanup_runs
  set lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
  where id = p_run and token = p_token and status = 'running' and lease_until > clock_timestamp();
  if not found then
    perform lull.check_lease(p_run, p_token);
  end if;
end
$$;

-- Renew the lease without doing anything else: a run calls it when a time-out has undone the renewal of a batch.
create or replace function public.lull_renew_lease(p_run uuid, p_token uuid)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '5s'
set timezone = 'UTC'
as $$
begin
  perform lull.renew_lease(p_run, p_token);
  return (select jsonb_build_object('lease_until', lease_until) from lull.cleanup_runs where id = p_run);
end
$$;

-- Open a policy of a run: freeze its cutoff, preview it, let the breaker decide. Returns the preview with "outcome":
-- `open`, `stopped` (nothing of the policy will be touched) or `failed`. Renews the lease.
create or replace function public.lull_open_policy(p_run uuid, p_token uuid, p_policy text)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '30s'
set lock_timeout = '2s'
set timezone = 'UTC'
set datestyle = 'ISO'
set extra_float_digits = '1'
as $$
declare
  v_run lull.cleanup_runs := lull.check_lease(p_run, p_token);
  v_line lull.cleanup_run_policies;
  v_policy lull.policies;
  v_preview jsonb;
  v_outcome text := 'open';
  v_reason text;
begin
  select * into v_line from lull.cleanup_run_policies where run_id = p_run and policy = p_policy for update;
  if not found then
    perform lull.refuse(422, 'invalid-parameter', format('Run %s has no policy "%s".', p_run, p_policy));
  end if;
  v_policy := lull.read_policy(v_line.definition, v_line.position);
  v_reason := lull.check_policy(v_policy);
  if v_reason is not null then
    v_preview := lull.empty_preview(v_policy, v_run.at, v_reason);
    v_outcome := 'failed';
  else
    v_preview := lull.preview_policy(v_policy, v_run.at);
    v_preview := v_preview || lull.breaker(v_policy, v_preview, v_line.allowed);
    if v_preview ->> 'stop' is not null then
      v_outcome := 'stopped';
    end if;
  end if;
  if v_line.outcome = 'pending' then
    update lull.cleanup_run_policies
    set opened_at = clock_timestamp(), cutoff = (v_preview ->> 'cutoff')::timestamptz, would = (v_preview ->> 'would')::bigint,
      capped = (v_preview ->> 'capped')::boolean, would_cascade = v_preview -> 'cascaded',
      would_files = (v_preview ->> 'files')::bigint, allowed = (v_preview ->> 'limit')::bigint, outcome = v_outcome,
      stop_reason = v_preview ->> 'stop_reason', error = v_reason,
      completed_at = case when v_outcome <> 'open' then clock_timestamp() end
    where run_id = p_run and policy = p_policy;
  else
    v_outcome := v_line.outcome;  -- the answer to the first call was lost: its decision stands
  end if;
  perform lull.renew_lease(p_run, p_token);
  return v_preview || jsonb_build_object('outcome', v_outcome);
end
$$;

-- Close the run: policies that failed outside the database (p_failures: {policy: sentence}), those that time left
-- unfinished, and the run itself; p_files is what became of the bytes. Returns the report, also
-- when called again. Needs the lease.
create or replace function public.lull_finish_cleanup(p_run uuid, p_token uuid, p_failures jsonb, p_files jsonb)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '10s'
set timezone = 'UTC'
as $$
begin
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
        when bool_or(outcome = 'partial') then 'partial'
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
  return lull.run_report(p_run);
end
$$;

-- What a run did, policy by policy, in the order of its work.
create or replace function lull.run_report(p_run uuid)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'run_id', r.id, 'caller', r.caller, 'at', r.at, 'started_at', r.started_at, 'finished_at', r.finished_at,
    'duration_ms', round((extract(epoch from r.finished_at - r.started_at) * 1000)::numeric),
    'status', r.status, 'files', r.files,
    'policies', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'policy', p.policy, 'target', p.definition -> 'target', 'cutoff', p.cutoff, 'would', p.would,
        'capped', p.capped, 'did', p.did, 'cascaded', p.cascaded, 'files', p.files, 'batches', p.batches,
        'ms', round(p.ms::numeric, 1), 'outcome', p.outcome, 'stop_reason', p.stop_reason, 'error', p.error,
        'skipped_rows', p.skipped, 'busy', p.busy_count, 'pacing',
        case when p.pacing ? 'samples' then (p.pacing - 'samples') || jsonb_build_object(
          'others', round((p.pacing ->> 'others')::numeric / (p.pacing ->> 'samples')::integer, 2)) end,
        'has_more', p.outcome in ('partial', 'stopped')) order by p.position), '[]')
      from lull.cleanup_run_policies p where p.run_id = r.id))
  from lull.cleanup_runs r
  where r.id = p_run;
$$;

-- Bring back what a run archived (of one policy, when given), oldest archive row first, up to p_limit in one call.
-- Rows come back as they were, so a row that is still stale goes again with the next run unless it is held or used.
-- Rows may refer to one another across archive rows, so what could not come back is tried again after the others.
-- Returns {"restored", "children", "conflicts", "remaining"}.
create or replace function public.lull_restore_run(p_run uuid, p_policy text default null, p_limit integer default 1000)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '30s'
as $$
declare
  v_archived record;
  v_answer jsonb;
  v_before integer;
  v_restored integer := 0;
  v_children integer := 0;
  v_conflicts jsonb;
  v_left jsonb := '[]';
begin
  loop
    v_before := v_restored;
    v_conflicts := '[]';
    for v_archived in
      select target, key from lull.archive
      where run_id = p_run and (p_policy is null or policy = p_policy)
      order by id
    loop
      exit when v_restored >= p_limit;
      v_answer := lull.restore_archived(v_archived.target, v_archived.key);
      if (v_answer ->> 'restored')::boolean then
        v_restored := v_restored + 1;
        v_children := v_children + (v_answer ->> 'children')::integer;
        v_left := v_left || (v_answer -> 'conflicts');
      else
        v_conflicts := v_conflicts || coalesce(v_answer -> 'conflicts', '[]');
      end if;
    end loop;
    exit when v_conflicts = '[]' or v_restored in (v_before, p_limit);
  end loop;
  v_answer := lull.restore_children((
    select coalesce(jsonb_agg(
      jsonb_build_object('table', c -> 'table', 'rows', jsonb_build_array(c -> 'row')) order by n), '[]')
    from jsonb_array_elements(v_left) with ordinality x (c, n)));
  return jsonb_build_object(
    'restored', v_restored, 'children', v_children + (v_answer ->> 'children')::integer,
    'conflicts', v_conflicts || (v_answer -> 'conflicts'),
    'remaining', (
      select count(*) from lull.archive where run_id = p_run and (p_policy is null or policy = p_policy)));
end
$$;
