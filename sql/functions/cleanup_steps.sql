-- Cleanup, by steps: a run for a scheduler inside the database, one bounded transaction per tick (pg_cron).
--
--   lull_cleanup_step    begin a run when one is due, go on with the one that steps began, or finish it
--   lull_cleanup_due     in how many seconds a run is due, whoever runs it
--   lull_watch_cleanup   raise while the last run is not good
--
-- A step calls the operations that any runner calls (cleanup.sql), for up to p_rows rows or two seconds, and commits
-- all of it together. A run that needs longer stays open between ticks, under a lease of 150 seconds: it outlives two
-- ticks of a minute, one of them undone, and holds other schedulers off no longer than that when pg_cron stops.
--
-- A statement time-out undoes a step, and no handler catches it. So a step writes what it is about to try into a
-- sequence, which is not undone, and the next step does not try the same again: it takes the rows that went well and
-- no more, then smaller batches, and in the end it steps over the row that is left.

-- One step. Returns {"did", "run_id", "rows", "message"}, where "did" is one of
--   nothing    no run is due, another one is in progress, the cleanup is paused, or another step is under way
--   began      a run, and no more: the step that began it before was undone
--   noted      what the step before, which was undone, had come to
--   worked     p_rows rows or two seconds' worth; the next step goes on
--   finished   the run; "status" says how it ended
-- The caller sends `set statement_timeout` before it: called directly, a function is not stopped by its own.
create or replace function public.lull_cleanup_step(p_rows integer default 2000, p_interval_minutes integer default 15)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '30s'
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  v_run lull.cleanup_runs;
  v_mark record;
  v_begun jsonb;
  v_due interval;
begin
  if p_rows is null or p_rows not between 1 and 100000 then
    perform lull.refuse(422, 'invalid-parameter', 'A step takes 1 to 100000 rows.');
  elsif not pg_try_advisory_xact_lock(hashtextextended('lull.cleanup_step', 0)) then
    return lull.step_report('nothing', null, 0, 'Another step is under way.');
  end if;
  select * into v_mark from lull.read_mark();
  select * into v_run from lull.cleanup_runs where status = 'running' and lease_until > clock_timestamp();
  if v_run.caller <> 'pg_cron' then
    return lull.step_report('nothing', v_run.id, 0, format('Run %s of %s is in progress since %s.',
      v_run.id, v_run.caller, lull.utc(v_run.started_at)));
  elsif v_mark.o_position > 0 and v_run.id is not null and v_mark.o_rows = 0 then
    return lull.learn_from_mark(v_run, v_mark.o_position, v_mark.o_size);
  elsif v_mark.o_position > 0 and v_run.id is not null then
    return lull.work_step(v_run, v_mark.o_rows);  -- so many went well
  elsif v_run.id is not null then
    return lull.work_step(v_run, p_rows);
  end if;

  v_due := lull.due_in(p_interval_minutes);
  if v_due > interval '30 seconds' then  -- a tick that comes a little early need not wait for the next
    return lull.step_report('nothing', null, 0, format('The next run is due in %s.', date_trunc('second', v_due)));
  end if;
  v_begun := public.lull_begin_cleanup(lull.effective_policies(), 'pg_cron', 150);
  if not (v_begun ->> 'started')::boolean then
    return lull.step_report('nothing', (v_begun ->> 'run_id')::uuid, 0, v_begun ->> 'message');
  end if;
  select * into v_run from lull.cleanup_runs where id = (v_begun ->> 'run_id')::uuid;
  perform lull.mark_step(0, 0, 0);
  if v_mark.o_position > 0 then
    return lull.step_report('began', v_run.id, 0, 'The step before was undone: the next one works.');
  end if;
  return lull.work_step(v_run, p_rows);
end
$$;

-- What a step answers.
create or replace function lull.step_report(p_did text, p_run uuid, p_rows integer, p_message text)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object('did', p_did, 'run_id', p_run, 'rows', p_rows, 'message', p_message);
$$;

-- Say what is about to be tried: a batch of p_size rows of the policy at p_position, or to open it (0), after p_rows
-- rows in this step. Stays when the step is undone; (0, 0, 0) says that nothing is.
create or replace function lull.mark_step(p_position integer, p_rows integer, p_size integer)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform setval('lull.step_mark', (p_position * 1000000::bigint + p_rows) * 1000000 + p_size);
end
$$;

-- Read what was tried and not brought to its end; o_position is 0 when there is nothing.
create or replace function lull.read_mark(out o_position integer, out o_rows integer, out o_size integer)
language sql
set search_path = ''
as $$
  select last_value / 1000000000000, last_value / 1000000 % 1000000, last_value % 1000000 from lull.step_mark;
$$;

-- Note what the step before was undone at, before anything is tried again: a policy that cannot be counted fails, a
-- batch becomes much smaller, a row that was tried alone twice (once could be a restart of the server) is stepped over.
create or replace function lull.learn_from_mark(p_run lull.cleanup_runs, p_position integer, p_size integer)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_line lull.cleanup_run_policies;
  v_message text := 'The step before was undone: the next batches are smaller.';
begin
  select * into v_line from lull.cleanup_run_policies where run_id = p_run.id and position = p_position;
  if p_size = 0 then
    v_message := 'reading its rows took longer than a step may take: narrow the policy (a greater age, more in '
      || '`equals`), let it run, and widen it step by step';
    perform lull.fail_policy(p_run.id, v_line.policy, v_message);
  else
    if v_line.outcome = 'pending' then
      perform lull.open_in_step(p_run, v_line, 0);
    end if;
    if p_size = 1 and v_line.suspects = 1 then
      perform lull.mark_step(p_position, 0, 0);
      perform public.lull_skip_row(p_run.id, p_run.token, v_line.policy, 'it took longer than a step may take');
      v_message := 'The row that undid two steps was stepped over.';
    end if;
    update lull.cleanup_run_policies
    set suspects = case when p_size = 1 and suspects = 1 then 0 else p_size end,
      batch_size = case when p_size <= 500 then 1 else floor(sqrt(p_size)) end
    where run_id = p_run.id and policy = v_line.policy;
  end if;
  perform lull.renew_lease(p_run.id, p_run.token);
  perform lull.mark_step(0, 0, 0);
  return lull.step_report('noted', p_run.id, 0, v_message);
end
$$;

-- Work a run's policies in their order until p_rows rows are done, two seconds are over, or nothing is left: then the
-- run is finished, with bytes left to a run over HTTP. Renews the lease.
create or replace function lull.work_step(p_run lull.cleanup_runs, p_rows integer)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_until timestamptz := clock_timestamp() + interval '2 seconds';
  v_line lull.cleanup_run_policies;
  v_rows integer := 0;
  v_status text;
begin
  loop
    select * into v_line from lull.cleanup_run_policies
    where run_id = p_run.id and outcome in ('pending', 'open')
    order by outcome = 'pending', position
    limit 1;
    if not found then
      perform lull.mark_step(0, 0, 0);
      v_status := public.lull_finish_cleanup(p_run.id, p_run.token, '{}', '{}') ->> 'status';
      return lull.step_report('finished', p_run.id, v_rows, format('The run is %s.', v_status))
        || jsonb_build_object('status', v_status);
    elsif v_line.outcome = 'pending' then
      perform lull.open_in_step(p_run, v_line, v_rows);
    else
      v_rows := v_rows + lull.batch_in_step(p_run, v_line, v_rows, p_rows - v_rows);
    end if;
    exit when v_rows >= p_rows or clock_timestamp() >= v_until;
  end loop;
  perform lull.renew_lease(p_run.id, p_run.token);
  perform lull.mark_step(0, 0, 0);
  return lull.step_report('worked', p_run.id, v_rows, 'The next step goes on.');
end
$$;

-- Open a policy after p_rows rows of this step. What goes wrong is that policy's failure alone; only a lost lease ends
-- the step.
create or replace function lull.open_in_step(p_run lull.cleanup_runs, p_line lull.cleanup_run_policies, p_rows integer)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform lull.mark_step(p_line.position, p_rows, 0);
  perform public.lull_open_policy(p_run.id, p_run.token, p_line.policy);
exception when others then
  if sqlstate = 'PT409' then
    raise;
  end if;
  perform lull.fail_policy(p_run.id, p_line.policy, sqlerrm);
end
$$;

-- Do one batch of at most p_most rows, after p_rows rows of this step; return how many it locked. Fails like opening.
create or replace function lull.batch_in_step(
  p_run lull.cleanup_runs, p_line lull.cleanup_run_policies, p_rows integer, p_most integer)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_wanted integer := case when p_line.suspects > 0 then greatest(1, least(p_line.batch_size, p_line.suspects / 2))
    else coalesce(p_line.batch_size, 1) end;
  v_size integer := least(v_wanted, p_most);
  v_batch jsonb;
begin
  perform lull.mark_step(p_line.position, p_rows, v_size);
  v_batch := public.lull_cleanup_batch(p_run.id, p_run.token, p_line.policy, v_size);
  perform lull.pace_batches(p_line, v_size, v_wanted, v_batch);
  return (v_batch ->> 'locked')::integer;
exception when others then
  if sqlstate = 'PT409' then
    raise;
  end if;
  perform lull.fail_policy(p_run.id, p_line.policy, sqlerrm);
  return 0;
end
$$;

-- Choose the size of the next batch as api/cleanup/batches.py does: the oldest row goes alone, then 500, then what
-- takes 250 ms. After a failure, `suspects` are the rows among which the one is that failed: half of them are tried,
-- until it is alone and skipped.
create or replace function lull.pace_batches(
  p_line lull.cleanup_run_policies, p_size integer, p_wanted integer, p_batch jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
  c_target constant numeric := 250;
  v_locked integer := (p_batch ->> 'locked')::integer;
  v_failed integer := (p_batch -> 'failed' ->> 'size')::integer;
  v_ms numeric := greatest(1, (p_batch ->> 'ms')::numeric);
  v_batch_size integer := p_line.batch_size;
  v_suspects integer := greatest(0, p_line.suspects - v_locked);
begin
  if p_batch ->> 'skipped' is not null then
    v_suspects := 0;
  elsif v_failed is not null then
    v_suspects := v_failed;
    v_batch_size := greatest(1, v_failed / 2);
  elsif p_line.suspects = 0 and v_locked = p_wanted then
    v_batch_size := case when p_size = 1 then case when v_ms <= c_target then 500 else 1 end
      else least(5000, greatest(1, p_size * least(2, greatest(0.5, c_target / v_ms)))) end;
  end if;
  update lull.cleanup_run_policies
  set batch_size = v_batch_size, suspects = v_suspects
  where run_id = p_line.run_id and policy = p_line.policy;
end
$$;

-- Close a policy that cannot go on.
create or replace function lull.fail_policy(p_run uuid, p_policy text, p_error text)
returns void
language sql
set search_path = ''
as $$
  update lull.cleanup_run_policies
  set outcome = 'failed', error = p_error, completed_at = clock_timestamp()
  where run_id = p_run and policy = p_policy and outcome in ('pending', 'open');
$$;

-- In how long a run is due: an interval after the last one began, whoever its caller was; zero or less is now. One that
-- was abandoned does not count, nor one of a single policy, which is an operator's errand.
create or replace function lull.due_in(p_interval_minutes integer)
returns interval
language sql
stable
set search_path = ''
as $$
  select coalesce(max(r.started_at) + make_interval(mins => p_interval_minutes) - now(), interval '0')
  from lull.cleanup_runs r
  where r.started_at > now() - make_interval(mins => p_interval_minutes)
    and r.status <> 'abandoned' and (r.status <> 'running' or r.lease_until > now())
    and lull.is_whole(r.id);
$$;

-- Whether a run is one of all policies.
create or replace function lull.is_whole(p_run uuid)
returns boolean
language sql
stable
set search_path = ''
as $$
  select (select count(*) from lull.cleanup_run_policies where run_id = p_run) >= (select count(*) from lull.policies);
$$;

-- The same for a scheduler outside the database: several of them, or one that restarts often, share one rhythm by it.
-- Returns {"due_in_seconds"}, 0 when a run is due now.
create or replace function public.lull_cleanup_due(p_interval_minutes integer)
returns jsonb
language sql
stable
security definer
set search_path = ''
set statement_timeout = '5s'
as $$
  select jsonb_build_object('due_in_seconds', greatest(0, extract(epoch from lull.due_in(p_interval_minutes))));
$$;

-- Raise while the last run that ended did not end well, and name what was wrong: a step cannot raise, as that would
-- undo the report that it has just stored. Returns {"status"} when all is well, and while the cleanup is paused.
create or replace function public.lull_watch_cleanup()
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '5s'
as $$
declare
  v_run lull.cleanup_runs;
  v_said text;
begin
  if exists (select 1 from lull.switches where name = 'cleanup' and is_on) then
    return jsonb_build_object('status', 'paused');
  end if;
  select * into v_run from lull.cleanup_runs r
  where r.status <> 'running' and lull.is_whole(r.id)
  order by r.started_at desc
  limit 1;
  select format('Run %s of %s, begun %s, %s%s.', v_run.id, v_run.caller, lull.utc(v_run.started_at),
    case v_run.status when 'stopped' then 'was stopped' when 'abandoned' then 'was abandoned' else v_run.status end,
    coalesce(': ' || string_agg(format('%s: %s', policy, coalesce(error, stop_reason)), '; ' order by position), ''))
  into v_said
  from lull.cleanup_run_policies
  where run_id = v_run.id and outcome in ('failed', 'stopped');
  if v_run.status in ('failed', 'abandoned') then
    perform lull.refuse(500, 'cleanup-failed', v_said);
  elsif v_run.status = 'stopped' then
    perform lull.refuse(409, 'cleanup-stopped', v_said);
  end if;
  return jsonb_build_object('status', coalesce(v_run.status, 'none'));
end
$$;
