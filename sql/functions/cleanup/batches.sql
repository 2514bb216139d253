-- Cleanup, a batch: one transaction that locks stale rows and everything below them, archives, deletes and counts. What
-- it does with the rows is in cleanup/deletion.sql, what with those that stay in cleanup/skipped_rows.sql, and how
-- large the next one is in cleanup/pace.sql.
--
-- Batches of one policy may be in flight in several *lanes*. Each lane has a cursor of its own and passes over what the
-- others have locked; a row behind one lane's cursor that another failed to delete is still before the other's.

-- One batch, one transaction. Locks up to p_size stale rows behind the lane's cursor (rows that others hold are left
-- for the next run), then every level below them, judges again, archives, deletes, counts, and renews the lease. p_size
-- null: as many as the batch before advised ("next_size"). p_size 0 ends the lane.
--   p_paused_ms         how long the caller waited before, for the report
--   p_own_transaction   the caller's transaction is this call alone: its commit need not wait for the WAL
-- A statement that fails undoes the batch but not the call: {"failed": {"sqlstate", "message", "size"}} asks for a
-- smaller size; with one row, the row is stepped over and named in "skipped". "others" is how many other clients of the
-- database were at work during the batch, "active" how many are at this moment (many: they queue); "wal" the bytes of
-- WAL that were written meanwhile; "alone" whether the database is idle but for this run.
create or replace function public.lull_cleanup_lane(
  p_run uuid, p_token uuid, p_policy text, p_size integer, p_lane integer, p_paused_ms double precision default 0,
  p_own_transaction boolean default false)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
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
set plan_cache_mode = force_generic_plan
as $$
declare
  v_server constant name := lull.require_server();
  v_name text := current_setting('application_name');
  v_answer jsonb;
begin
  if p_own_transaction then
    -- What makes a promise of the batch (a removal of bytes, the report) commits later, and by waiting for its own WAL
    -- makes this durable too. What a crash undoes before that is whole, and stale as before.
    perform set_config('synchronous_commit', 'off', true);
  end if;
  perform set_config('application_name', lull.batch_name(p_run), true);
  v_answer := lull.run_batch(p_run, p_token, p_policy, p_size, p_lane, p_paused_ms);
  perform set_config('application_name', v_name, true);
  return v_answer;
end
$$;

-- The same for a caller that knows of no lanes.
create or replace function public.lull_cleanup_batch(p_run uuid, p_token uuid, p_policy text, p_size integer)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
as $$
  select lull.require_server();
  select public.lull_cleanup_lane(p_run, p_token, p_policy, greatest(p_size, 1), 1);
$$;

-- A batch, under the settings of its caller.
create or replace function lull.run_batch(
  p_run uuid, p_token uuid, p_policy text, p_size integer, p_lane integer, p_paused_ms double precision)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run lull.cleanup_runs := lull.check_lease(p_run, p_token);
  v_line lull.cleanup_run_policies;
  v_lane lull.cleanup_lanes;
  v_policy lull.policy_definition;
  v_made lull.compiled_policies;
  v_load record;
  v_started timestamptz;
  v_wal pg_lsn;
  v_size integer;
  v_tried record;
  v_answer jsonb := lull.empty_batch();
begin
  select * into v_lane from lull.lock_cleanup_lane(p_run, p_policy, p_lane);
  select * into v_line from lull.cleanup_run_policies where run_id = p_run and policy = p_policy;
  if v_line.outcome is distinct from 'open' then
    return v_answer || '{"done": true}';
  elsif exists (select 1 from lull.pauses() where name in ('cleanup', 'cleanup:' || split_part(p_policy, ':', 1))) then
    perform lull.close_line(v_line, 'paused', 'it was paused meanwhile; what was deleted before stays deleted');
    return v_answer || '{"done": true}';
  end if;
  v_line.cursor_clock := v_lane.cursor_clock;
  v_line.cursor_key := v_lane.cursor_key;
  v_policy := lull.read_definition(v_line.definition, v_line.position);
  v_load := lull.begin_watch(v_line, p_lane);
  v_started := clock_timestamp();
  v_wal := pg_current_wal_insert_lsn();
  v_size := least(greatest(coalesce(p_size, lull.next_size(v_lane)), 0), v_line.allowed - v_line.did);
  begin
    v_made := lull.hold_statements(v_line, v_policy);
  exception when lock_not_available then
    -- A table of the cascade is being changed (DDL): nothing of this policy can be taken now.
    perform lull.close_line(v_line, 'partial', 'a table of it is locked by others; the next run goes on');
    return v_answer || '{"done": true}';
  end;
  if v_made.run_id is null then  -- the schema was changed, and the policy does not fit it any more
    return v_answer || '{"done": true}';
  end if;

  v_tried := lull.try_batch(v_line, v_policy, v_made, p_lane, v_size, v_started);
  v_lane.cursor_clock := coalesce(v_tried.o_clock, v_lane.cursor_clock);
  v_lane.cursor_key := coalesce(v_tried.o_key, v_lane.cursor_key);
  perform set_config('lock_timeout', '5s', true);
  return lull.end_batch(v_line, v_lane, v_tried.o_answer, v_size, v_load.o_since, v_load.o_others, v_started, v_wal,
    p_paused_ms, p_token);
end
$$;

-- The part of a batch that can fail: what does is undone and in the answer. With one row, it is stepped over. LU001
-- says that another lane has used up the limit. o_clock, o_key: of the last row locked.
create or replace function lull.try_batch(
  p_line lull.cleanup_run_policies, p_policy lull.policy_definition, p_made lull.compiled_policies, p_lane integer,
  p_size integer, p_started timestamptz, out o_answer jsonb, out o_clock timestamptz, out o_key text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_over_limit constant text := 'LU001';
  v_taken record;
begin
  begin
    v_taken := lull.take_batch(p_line, p_policy, p_made, p_size);
    o_answer := lull.empty_batch() || jsonb_build_object(
      'locked', v_taken.o_locked, 'deleted', v_taken.o_deleted, 'cascaded', v_taken.o_cascaded,
      'files', v_taken.o_files, 'done', v_taken.o_locked < p_size or p_size = 0);
    -- Lanes meet here, until the commit that follows.
    perform set_config('lock_timeout', '5s', true);
    if not lull.add_counts(p_line, v_taken.o_deleted, v_taken.o_cascaded, v_taken.o_files, v_taken.o_kept,
      v_taken.o_elsewhere, v_taken.o_below, p_started)
    then
      raise exception using errcode = c_over_limit, message = 'another batch has used up the limit meanwhile';
    end if;
    o_clock := v_taken.o_clock;
    o_key := v_taken.o_key;
  exception when others then
    o_answer := lull.empty_batch() || jsonb_build_object(
      'failed', jsonb_build_object('sqlstate', sqlstate, 'message', sqlerrm, 'size', p_size));
    if p_size = 1 and sqlstate <> c_over_limit then
      o_answer := o_answer || lull.isolate_lane_row(p_line, p_policy, p_made, p_lane, sqlstate, sqlerrm);
    end if;
  end;
end
$$;

-- The answer of a batch that did nothing.
create or replace function lull.empty_batch()
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return '{"locked": 0, "deleted": 0, "cascaded": 0, "files": 0, "done": false, "failed": null, "skipped": null,
    "ms": 0, "others": 0, "active": 0, "wal": 0, "next_size": 1, "alone": false}'::jsonb;
end
$$;

-- The statements of an open policy, its tables locked against DDL until the commit: those that were made when the
-- policy was opened, or new ones when the catalog is another since. Closes the policy and returns null when it does not
-- fit the schema any more, or its table was adopted in another way. Raises 55P03, without waiting, while a table is
-- being changed.
create or replace function lull.hold_statements(p_line lull.cleanup_run_policies, p_policy lull.policy_definition)
returns lull.compiled_policies
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_made lull.compiled_policies;
  v_reason text;
begin
  for attempt in 1..3 loop
    select * into v_made from lull.compiled_policies where run_id = p_line.run_id and policy = p_line.policy;
    begin
      execute v_made.lock_statement;
      if v_made.fingerprint = lull.catalog_fingerprint(p_policy.target, v_made.names, v_made.relations) then
        if not lull.are_prepared(v_made.prepared_as) then
          perform lull.prepare_statements(v_made);
        end if;
        return v_made;
      end if;
    exception when undefined_table or wrong_object_type or null_value_not_allowed then
      null;  -- dropped or renamed, or not made yet
    end;
    if p_line.adoption <> lull.adoption_of(p_policy.target) then
      perform lull.close_line(p_line, 'partial',
        'its adoption was changed meanwhile; the next run goes by the new one');
      return null;
    end if;
    v_reason := lull.check_definition(p_policy);
    begin
      if v_reason is null then
        perform lull.compile_policy(p_line.run_id, p_line.policy, p_policy, p_line.only_key);
      end if;
    exception when lock_not_available then
      raise;
    when others then
      v_reason := sqlerrm;
    end;
    if v_reason is not null then
      perform lull.close_line(p_line, 'failed', v_reason);
      return null;
    end if;
  end loop;
  perform lull.close_line(p_line, 'failed', 'its tables are changed all the time');
  return null;
end
$$;

-- Lock a lane against a second call of the same, and open it when it is new or ended.
create or replace function lull.lock_cleanup_lane(p_run uuid, p_policy text, p_lane integer)
returns lull.cleanup_lanes
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_lane lull.cleanup_lanes;
begin
  select * into v_lane from lull.cleanup_lanes
  where run_id = p_run and policy = p_policy and lane = p_lane and not is_done for update;
  if not found then
    insert into lull.cleanup_lanes (run_id, policy, lane, next_size)
    select p.run_id, p.policy, p_lane, coalesce(
      (select max(l.next_size) from lull.cleanup_lanes l where l.run_id = p_run and l.policy = p_policy), 1)
    from lull.cleanup_run_policies p
    where p.run_id = p_run and p.policy = p_policy and p.outcome = 'open'
    on conflict (run_id, policy, lane) do update set is_done = false
    returning * into v_lane;
  end if;
  return v_lane;
end
$$;

-- What the connection of a batch is called.
create or replace function lull.batch_name(p_run uuid)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return 'lull cleanup ' || p_run;
end
$$;
