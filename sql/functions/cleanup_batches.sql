-- Cleanup, a batch: one transaction that locks stale rows and everything below them, archives, deletes and counts. What
-- it does with the rows is in cleanup_removal.sql, what with those that stay in cleanup_skips.sql.
--
-- Batches of one policy may be in flight in several *lanes*. Each lane has a cursor of its own and passes over what the
-- others have locked; a row behind one lane's cursor that another failed to delete is still before the other's.

-- One batch, one transaction. Locks up to p_size stale rows behind the lane's cursor (rows that others hold are left for
-- the next run), then every level below them, archives, deletes, counts, and renews the lease. p_size 0 ends the lane.
--   p_paused_ms   how long the caller waited before, for the report
-- A statement that fails undoes the batch but not the call: {"failed": {"sqlstate", "message", "size"}} asks for a
-- smaller size; with one row, the row is stepped over and named in "skipped". "others" is how many other clients of the
-- database were at work when the batch began and ended, on average; "wal" the bytes of WAL that were written meanwhile.
create or replace function public.lull_cleanup_lane(
  p_run uuid, p_token uuid, p_policy text, p_size integer, p_lane integer, p_paused_ms double precision default 0)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '10s'
set lock_timeout = '100ms'
set timezone = 'UTC'
set datestyle = 'ISO'
set intervalstyle = 'postgres'
set extra_float_digits = '1'
set bytea_output = 'hex'
set lc_monetary = 'C'
set work_mem = '16MB'
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  c_over_limit constant text := 'LU001';
  c_first_look_seconds constant double precision := 0.03;
  v_started timestamptz;
  v_looked_since timestamptz;
  v_others numeric;
  v_wal pg_lsn;
  v_line lull.cleanup_run_policies;
  v_policy lull.policies;
  v_key text[];
  v_size integer;
  v_ctids tid[];
  v_keys text[];
  v_rows jsonb[];
  v_removed record;
  c_nothing constant jsonb :=
    '{"locked": 0, "deleted": 0, "cascaded": 0, "files": 0, "done": false, "failed": null, "skipped": null}';
  v_answer jsonb := c_nothing;
begin
  -- The batch need not wait for its WAL: whatever makes a promise of it (a removal of bytes, the report) commits later, and
  -- by waiting for its own makes this durable too. What a crash takes back before that is whole, and stale as before.
  perform set_config('synchronous_commit', 'off', true);
  perform set_config('application_name', lull.batch_name(p_run), true);
  perform lull.check_lease(p_run, p_token);
  v_line := lull.lock_lane(p_run, p_policy, p_lane);
  if v_line.outcome is distinct from 'open' then
    return v_answer || '{"done": true, "ms": 0, "others": 0, "wal": 0}';
  end if;
  if exists (select 1 from lull.switches where name = 'cleanup' and is_on) then
    update lull.cleanup_run_policies
    set outcome = 'stopped', stop_reason = 'the cleanup was paused meanwhile', completed_at = clock_timestamp()
    where run_id = p_run and policy = p_policy;
    return v_answer || '{"done": true, "ms": 0, "others": 0, "wal": 0}';
  end if;
  v_policy := lull.read_policy(v_line.definition, v_line.position);
  v_looked_since := case when lull.is_only_lane(p_run, p_policy, p_lane) then clock_timestamp() end;
  if v_line.batches = 1 then
    -- By what it sees here the next batches go at full speed. Not before: most policies have nothing for a second batch.
    perform pg_sleep(c_first_look_seconds);
  end if;
  v_others := lull.others_at_work(p_run, v_looked_since);
  v_started := clock_timestamp();
  v_wal := pg_current_wal_insert_lsn();
  select key_columns into v_key from lull.targets where name = v_policy.target;
  v_size := least(greatest(p_size, 0), v_line.allowed - v_line.did);

  begin
    select o_ctids, o_keys, o_rows into v_ctids, v_keys, v_rows
    from lull.lock_rows(v_policy, v_line, v_key, v_size);
    select * into v_removed from lull.take_rows(p_run, v_policy, v_ctids, v_keys, v_rows);
    perform lull.move_cursor(v_policy, p_run, p_lane, v_key, v_rows[cardinality(v_rows)]);
    v_answer := v_answer || jsonb_build_object(
      'locked', cardinality(v_rows), 'deleted', v_removed.o_deleted, 'cascaded', v_removed.o_cascaded,
      'files', v_removed.o_files, 'done', cardinality(v_rows) < v_size or v_size = 0);
    -- Lanes meet here, until the commit that follows.
    perform set_config('lock_timeout', '5s', true);
    update lull.cleanup_run_policies
    set did = did + v_removed.o_deleted, cascaded = cascaded + v_removed.o_cascaded,
      files = files + v_removed.o_files, batches = batches + 1,
      ms = ms + extract(epoch from clock_timestamp() - v_started) * 1000
    where run_id = p_run and policy = p_policy and did + v_removed.o_deleted <= allowed;
    if not found then
      raise exception using errcode = c_over_limit, message = 'another batch has used up the limit meanwhile';
    end if;
  exception when others then
    v_answer := c_nothing || jsonb_build_object(
      'failed', jsonb_build_object('sqlstate', sqlstate, 'message', sqlerrm, 'size', v_size));
    if v_size = 1 and sqlstate <> c_over_limit then
      v_answer := v_answer || lull.isolate_row(v_policy, v_line, p_lane, v_key, v_rows, sqlstate, sqlerrm);
    end if;
  end;

  v_others := (v_others + lull.others_at_work(p_run, v_looked_since)) / 2;
  perform set_config('lock_timeout', '5s', true);
  perform lull.note_pace(p_run, p_policy, v_size, p_paused_ms, v_others);
  if (v_answer ->> 'done')::boolean then
    perform lull.close_lane(v_policy, v_line, p_lane);
  end if;
  perform lull.renew_lease(p_run, p_token);
  return v_answer || jsonb_build_object('others', v_others, 'wal', pg_current_wal_insert_lsn() - v_wal,
    'ms', round((extract(epoch from clock_timestamp() - v_started) * 1000)::numeric, 1));
end
$$;

-- The same for a caller that knows of no lanes.
create or replace function public.lull_cleanup_batch(p_run uuid, p_token uuid, p_policy text, p_size integer)
returns jsonb
language sql
security definer
set search_path = ''
set statement_timeout = '10s'
as $$
  select public.lull_cleanup_lane(p_run, p_token, p_policy, greatest(p_size, 1), 1);
$$;

-- Lock a lane against a second call of the same, and open it when it is new or ended. Returns the policy's line of the run, with
-- the lane's cursor.
create or replace function lull.lock_lane(p_run uuid, p_policy text, p_lane integer)
returns lull.cleanup_run_policies
language plpgsql
set search_path = ''
as $$
declare
  v_line lull.cleanup_run_policies;
begin
  insert into lull.cleanup_lanes (run_id, policy, lane)
  select run_id, policy, p_lane from lull.cleanup_run_policies
  where run_id = p_run and policy = p_policy and outcome = 'open'
  on conflict (run_id, policy, lane) do update set is_done = false;
  select * into v_line from lull.cleanup_run_policies where run_id = p_run and policy = p_policy;
  select cursor_clock, cursor_key into v_line.cursor_clock, v_line.cursor_key
  from lull.cleanup_lanes where run_id = p_run and policy = p_policy and lane = p_lane;
  return v_line;
end
$$;

-- Remember the last row a lane has locked: its next batch begins behind it, whether it was deleted or not.
create or replace function lull.move_cursor(
  p_policy lull.policies, p_run uuid, p_lane integer, p_key text[], p_row jsonb)
returns void
language sql
set search_path = ''
as $$
  update lull.cleanup_lanes
  set cursor_clock = (p_row ->> p_policy.clock)::timestamptz,
    cursor_key = array(select p_row ->> c from unnest(p_key) with ordinality u (c, n) order by n)
  where run_id = p_run and policy = p_policy.name and lane = p_lane and p_row is not null;
$$;

-- How many other clients of this database are at work just now, or have been since then; null: just now. Batches of a run know
-- one another by the name that each gives its connection for as long as it lasts. A state that the owner of Lull may not
-- see counts as idle.
create or replace function lull.others_at_work(p_run uuid, p_since timestamptz)
returns numeric
language plpgsql
set search_path = ''
as $$
begin
  perform pg_stat_clear_snapshot();  -- within a transaction, the first look is the answer to all others
  return (
    select count(*)
    from pg_catalog.pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and (state = 'active' or state_change > p_since)
      and backend_type = 'client backend' and application_name <> lull.batch_name(p_run));
end
$$;

-- Whether a lane is the only one of its policy. The connection of another would pass for another client between its batches.
create or replace function lull.is_only_lane(p_run uuid, p_policy text, p_lane integer)
returns boolean
language sql
stable
set search_path = ''
as $$
  select not exists (
    select 1 from lull.cleanup_lanes
    where run_id = p_run and policy = p_policy and lane <> p_lane and not is_done);
$$;

-- What the connection of a batch is called.
create or replace function lull.batch_name(p_run uuid)
returns text
language sql
immutable
set search_path = ''
as $$
  select 'lull cleanup ' || p_run;
$$;

-- Add to the report how the run was paced: the largest batch, the pauses, and what the others were doing.
create or replace function lull.note_pace(
  p_run uuid, p_policy text, p_size integer, p_paused_ms double precision, p_others numeric)
returns void
language sql
set search_path = ''
as $$
  update lull.cleanup_run_policies
  set pacing = jsonb_build_object(
    'largest_batch', greatest((pacing ->> 'largest_batch')::integer, p_size),
    'paused_ms', round((coalesce((pacing ->> 'paused_ms')::double precision, 0) + p_paused_ms)::numeric, 1),
    'others', coalesce((pacing ->> 'others')::numeric, 0) + p_others,
    'samples', coalesce((pacing ->> 'samples')::integer, 0) + 1,
    'lanes', (select count(*) from lull.cleanup_lanes l where l.run_id = p_run and l.policy = p_policy))
  where run_id = p_run and policy = p_policy;
$$;

-- End a lane that found nothing more; the last one closes its policy.
create or replace function lull.close_lane(p_policy lull.policies, p_line lull.cleanup_run_policies, p_lane integer)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- Two lanes that end at once must see each other.
  perform 1 from lull.cleanup_run_policies where run_id = p_line.run_id and policy = p_policy.name for no key update;
  update lull.cleanup_lanes set is_done = true
  where run_id = p_line.run_id and policy = p_policy.name and lane = p_lane;
  if not exists (
    select 1 from lull.cleanup_lanes where run_id = p_line.run_id and policy = p_policy.name and not is_done
  ) then
    perform lull.end_policy(p_policy, lull.lock_lane(p_line.run_id, p_policy.name, p_lane));
  end if;
end
$$;

-- Close a policy that has no stale rows left behind this cursor, or has used up what the breaker allowed it.
create or replace function lull.end_policy(p_policy lull.policies, p_line lull.cleanup_run_policies)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_more boolean := false;
begin
  if p_line.did >= p_line.allowed then
    execute format('select exists (select 1 from %s)',
      lull.stale_rows(p_policy, p_line.cutoff, p_line.cursor_clock, p_line.cursor_key))
    into v_more;
  end if;
  update lull.cleanup_run_policies
  set outcome = case when skipped_count > 0 then 'failed' when v_more then 'stopped' else 'completed' end,
    stop_reason = case when v_more then
      format('%s rows were taken, which is its limit, and more rows became stale meanwhile', did) end,
    error = case when skipped_count > 0 then format(
      '%s %s could not be deleted and left as before; everything else was done',
      skipped_count, case skipped_count when 1 then 'row' else 'rows' end) end,
    completed_at = clock_timestamp()
  where run_id = p_line.run_id and policy = p_policy.name and outcome = 'open';
end
$$;
