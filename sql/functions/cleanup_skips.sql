-- Cleanup, rows that stay: a batch is halved until a row that cannot be deleted is alone, then it is stepped over.

-- A batch of one row failed: step over the row. When there is none to blame, what fails is the selection itself, and
-- the policy is closed as failed. Returns {"skipped"} or {"done": true}.
create or replace function lull.isolate_row(
  p_policy lull.policies, p_line lull.cleanup_run_policies, p_lane integer, p_key text[], p_rows jsonb[], p_sqlstate text,
  p_reason text)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_rows jsonb[] := p_rows;
begin
  if v_rows is null then
    -- The row could not be read as a whole; its key is enough to step over it.
    begin
      p_policy.archive := false;
      select o_rows into v_rows from lull.lock_rows(p_policy, p_line, p_key, 1);
    exception when others then
      null;
    end;
  end if;
  if v_rows[1] is not null then
    return jsonb_build_object(
      'skipped', lull.step_over(p_policy, p_line.run_id, p_lane, p_key, v_rows[1], p_sqlstate, p_reason));
  end if;
  update lull.cleanup_run_policies
  set outcome = 'failed', error = p_reason, completed_at = clock_timestamp()
  where run_id = p_line.run_id and policy = p_policy.name;
  return '{"done": true}';
end
$$;

-- Step over a row that cannot be deleted. One that is only busy (locked by others) is left for the next run without
-- a fuss; any other is reported, once, and makes the policy fail in the end. Returns {"key", "reason"}.
create or replace function lull.step_over(
  p_policy lull.policies, p_run uuid, p_lane integer, p_key text[], p_row jsonb, p_sqlstate text, p_reason text)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_busy boolean := p_sqlstate in ('55P03', '40P01');
  v_skipped jsonb := jsonb_build_object('key', lull.key_text(p_row, p_key), 'reason', p_reason);
begin
  perform lull.move_cursor(p_policy, p_run, p_lane, p_key, p_row);
  perform 1 from lull.cleanup_run_policies where run_id = p_run and policy = p_policy.name for no key update;
  update lull.cleanup_run_policies
  set busy_count = busy_count + v_busy::integer,
    skipped_count = skipped_count + (not v_busy)::integer,
    skipped = case when v_busy or skipped_count >= 100 then skipped else skipped || v_skipped end
  where run_id = p_run and policy = p_policy.name
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
set search_path = ''
set statement_timeout = '10s'
set lock_timeout = '500ms'
set timezone = 'UTC'
set datestyle = 'ISO'
set extra_float_digits = '1'
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_line lull.cleanup_run_policies;
  v_policy lull.policies;
  v_key text[];
  v_row jsonb;
  v_skipped jsonb;
begin
  perform lull.check_lease(p_run, p_token);
  v_line := lull.lock_lane(p_run, p_policy, p_lane);
  if v_line.outcome = 'open' then
    v_policy := lull.read_policy(v_line.definition, v_line.position);
    select key_columns into v_key from lull.targets where name = v_policy.target;
    select o_rows[1] into v_row from lull.lock_rows(v_policy, v_line, v_key, 1);
    if v_row is null then
      perform lull.close_lane(v_policy, v_line, p_lane);
    else
      v_skipped := lull.step_over(v_policy, p_run, p_lane, v_key, v_row, '57014', p_reason);
    end if;
  end if;
  perform lull.renew_lease(p_run, p_token);
  return jsonb_build_object('locked', 0, 'deleted', 0, 'cascaded', 0, 'files', 0, 'done', v_skipped is null, 'ms', 0,
    'others', 0, 'wal', 0, 'failed', null, 'skipped', v_skipped);
end
$$;

-- The same for the only lane of a caller that knows of none.
create or replace function public.lull_skip_row(p_run uuid, p_token uuid, p_policy text, p_reason text)
returns jsonb
language sql
security definer
set search_path = ''
set statement_timeout = '10s'
as $$
  select public.lull_skip_lane_row(p_run, p_token, p_policy, 1, p_reason);
$$;
