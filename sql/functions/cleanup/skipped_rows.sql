-- Cleanup, rows that stay: a batch is halved until a row that cannot be deleted is alone, then it is stepped over.

-- A batch of one row failed: step over the row. When there is none to blame, what fails is the selection itself, and
-- the policy is closed as failed. Returns {"skipped"} or {"done": true}.
create or replace function lull.isolate_lane_row(
  p_line lull.cleanup_run_policies, p_policy lull.policy_definition, p_made lull.compiled_policies, p_lane integer,
  p_sqlstate text, p_reason text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_skipped jsonb;
begin
  begin
    v_skipped := lull.step_over_row(p_line, p_made, p_lane, p_sqlstate, p_reason);
  exception when others then
    null;
  end;
  if v_skipped is not null then
    return jsonb_build_object('skipped', v_skipped);
  end if;
  perform lull.close_line(p_line, 'failed', p_reason);
  return '{"done": true}';
end
$$;

-- Step over the next row that a lane would take. One that is only busy (locked by others, or in a conflict with them)
-- is left for the next run without a fuss; any other is reported, once, and makes the policy fail in the end. Returns
-- {"key", "reason"}, null when no row is left.
create or replace function lull.step_over_row(
  p_line lull.cleanup_run_policies, p_made lull.compiled_policies, p_lane integer, p_sqlstate text, p_reason text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_busy boolean := p_sqlstate in ('55P03', '40P01', '40001');
  v_row record;
  v_skipped jsonb;
begin
  if p_line.cursor_clock is null then
    execute p_made.first_statement into v_row using p_line.cutoff, 1;
  else
    execute p_made.next_statement into v_row using p_line.cutoff, 1, p_line.cursor_clock, p_line.cursor_key;
  end if;
  if v_row.keys is null then
    return null;
  end if;
  v_skipped := jsonb_build_object('key', v_row.keys[1], 'reason', p_reason);
  update lull.cleanup_lanes
  set cursor_clock = v_row.clock, cursor_key = lull.key_values(v_row.keys[1], p_line.definition ->> 'target')
  where run_id = p_line.run_id and policy = p_line.policy and lane = p_lane;
  perform 1 from lull.cleanup_run_policies
  where run_id = p_line.run_id and policy = p_line.policy for no key update;
  update lull.cleanup_run_policies
  set busy_count = busy_count + v_busy::integer,
    skipped_count = skipped_count + (not v_busy)::integer,
    skipped = case when v_busy or skipped_count >= 100 then skipped else skipped || v_skipped end
  where run_id = p_line.run_id and policy = p_line.policy
    -- the other lane may have met it before
    and (v_busy or not skipped @> jsonb_build_array(jsonb_build_object('key', v_skipped -> 'key')));
  return v_skipped;
end
$$;

-- Step over a lane's next stale row after a batch of one ran into its time-out (which no exception handler can catch).
create or replace function public.lull_skip_lane_row(
  p_run uuid, p_token uuid, p_policy text, p_lane integer, p_reason text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
set lock_timeout = '500ms'
set timezone = 'UTC'
set datestyle = 'ISO'
set extra_float_digits = '1'
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_server constant name := lull.require_server();
  v_line lull.cleanup_run_policies;
  v_lane lull.cleanup_lanes;
  v_made lull.compiled_policies;
  v_skipped jsonb;
begin
  perform lull.check_lease(p_run, p_token);
  select * into v_lane from lull.lock_cleanup_lane(p_run, p_policy, p_lane);
  select * into v_line from lull.cleanup_run_policies where run_id = p_run and policy = p_policy;
  if v_line.outcome = 'open' then
    v_line.cursor_clock := v_lane.cursor_clock;
    v_line.cursor_key := v_lane.cursor_key;
    v_made := lull.hold_statements(v_line, lull.read_definition(v_line.definition, v_line.position));
    if v_made.run_id is not null then
      v_skipped := lull.step_over_row(v_line, v_made, p_lane, '57014', p_reason);
      update lull.cleanup_lanes set suspects = 0 where run_id = p_run and policy = p_policy and lane = p_lane;
    end if;
    if v_skipped is null then
      perform lull.end_lane(v_line, p_lane);
    end if;
  end if;
  perform lull.renew_lease(p_run, p_token);
  return lull.empty_batch() || jsonb_build_object('done', v_skipped is null, 'skipped', v_skipped, 'next_size', (
    select lull.next_size(l) from lull.cleanup_lanes l where run_id = p_run and policy = p_policy and lane = p_lane));
end
$$;

-- The same for the only lane of a caller that knows of none.
create or replace function public.lull_skip_row(p_run uuid, p_token uuid, p_policy text, p_reason text)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
as $$
  select lull.require_server();
  select public.lull_skip_lane_row(p_run, p_token, p_policy, 1, p_reason);
$$;
