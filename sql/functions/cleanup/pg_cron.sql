-- Cleanup, by steps: a run for a scheduler inside the database, one bounded transaction per tick (pg_cron).
--
--   lull_cleanup_step    begin a run when one is due, go on with the one that steps began, or finish it
--   lull_cleanup_due     in how many seconds a run is due, by any runner
--   lull_watch_cleanup   raise while the last run is not good
--
-- A step calls the operations that any runner calls (cleanup/run.sql), for up to p_rows rows or two seconds, and
-- commits all of it together. A run that needs longer stays open between ticks, under a lease of 150 seconds: it
-- outlives two ticks of a minute, one of them undone, and holds other schedulers off no longer than that when pg_cron
-- stops.
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
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '30s'
set lock_timeout = '2s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
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
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('did', p_did, 'run_id', p_run, 'rows', p_rows, 'message', p_message);
$$;

-- Say what is about to be tried: a batch of p_size rows of the policy at p_position, or to open it (0), after p_rows
-- rows in this step. Stays when the step is undone; (0, 0, 0) says that nothing is.
create or replace function lull.mark_step(p_position integer, p_rows integer, p_size integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform setval('lull.step_mark', (p_position * 1000000::bigint + p_rows) * 1000000 + p_size);
end
$$;

-- Read what was tried and not brought to its end; o_position is 0 when there is nothing.
create or replace function lull.read_mark(out o_position integer, out o_rows integer, out o_size integer)
language sql
set search_path = pg_catalog, pg_temp
as $$
  select last_value / 1000000000000, last_value / 1000000 % 1000000, last_value % 1000000 from lull.step_mark;
$$;

-- Note what the step before was undone at, before anything is tried again: a policy that cannot be counted fails, a
-- batch becomes much smaller, a row that was tried alone twice (once could be a restart of the server) is stepped over.
create or replace function lull.learn_from_mark(p_run lull.cleanup_runs, p_position integer, p_size integer)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
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
    perform lull.lock_cleanup_lane(p_run.id, v_line.policy, 1);
    perform lull.learn_timeout(p_run.id, v_line.policy, 1, p_size);
    update lull.cleanup_run_policies
    set suspects = case when p_size = 1 and suspects = 1 then 0 else p_size end
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size integer := least(p_most, coalesce((
    select lull.next_size(l) from lull.cleanup_lanes l
    where l.run_id = p_run.id and l.policy = p_line.policy and l.lane = 1), 1));
  v_batch jsonb;
begin
  perform lull.mark_step(p_line.position, p_rows, v_size);
  v_batch := public.lull_cleanup_lane(p_run.id, p_run.token, p_line.policy, v_size, 1);
  return (v_batch ->> 'locked')::integer;
exception when others then
  if sqlstate = 'PT409' then
    raise;
  end if;
  perform lull.fail_policy(p_run.id, p_line.policy, sqlerrm);
  return 0;
end
$$;

-- Close a policy that cannot go on.
create or replace function lull.fail_policy(p_run uuid, p_policy text, p_error text)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.cleanup_run_policies
  set outcome = 'failed', error = p_error, completed_at = clock_timestamp()
  where run_id = p_run and policy = p_policy and outcome in ('pending', 'open');
$$;
