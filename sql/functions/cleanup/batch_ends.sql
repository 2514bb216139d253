-- Cleanup, the end of a batch: what it adds to its line, whether more is left, and when a lane or a line is over.

-- Close a policy of a run: stopped or partial for a reason, or failed with an error.
create or replace function lull.close_line(p_line lull.cleanup_run_policies, p_outcome text, p_reason text)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.cleanup_run_policies
  set outcome = p_outcome, completed_at = clock_timestamp(),
    stop_reason = case when p_outcome <> 'failed' then p_reason end,
    error = case p_outcome when 'failed' then p_reason end
  where run_id = p_line.run_id and policy = p_line.policy;
$$;

-- Add a batch to its policy's counts. False when another lane has used up the limit.
create or replace function lull.add_counts(
  p_line lull.cleanup_run_policies, p_deleted integer, p_cascaded integer, p_files integer, p_kept jsonb,
  p_elsewhere jsonb, p_below jsonb, p_started timestamptz)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update lull.cleanup_run_policies
  set did = did + p_deleted, cascaded = cascaded + p_cascaded, files = files + p_files, batches = batches + 1,
    ms = ms + extract(epoch from clock_timestamp() - p_started) * 1000,
    kept_count = kept_count + jsonb_array_length(p_kept),
    kept = case when p_kept = '[]' or jsonb_array_length(kept) >= 100 then kept else kept || p_kept end,
    elsewhere = lull.added_counts(elsewhere, p_elsewhere), below_counts = lull.added_counts(below_counts, p_below)
  where run_id = p_line.run_id and policy = p_line.policy and did + p_deleted <= allowed;
  return found;
end
$$;

-- Counts by name, with others added.
create or replace function lull.added_counts(p_counts jsonb, p_more jsonb)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when p_more = '{}' then p_counts else p_counts || (
    select jsonb_object_agg(e.key, e.value::bigint + coalesce((p_counts ->> e.key)::bigint, 0))
    from jsonb_each_text(p_more) e) end;
$$;

-- Store what a batch taught its lane, close the lane or the policy when nothing is left, renew the lease, and answer.
create or replace function lull.end_batch(
  p_line lull.cleanup_run_policies, p_lane lull.cleanup_lanes, p_answer jsonb, p_size integer,
  p_since timestamptz, p_others numeric, p_started timestamptz, p_wal pg_lsn, p_paused_ms double precision,
  p_token uuid)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ms numeric := round((extract(epoch from clock_timestamp() - p_started) * 1000)::numeric, 1);
  v_wal bigint := pg_current_wal_insert_lsn() - p_wal;
  v_others numeric := lull.end_watch(p_line, p_since, p_others);
  v_active numeric := case when v_others > 1 then lull.count_others(p_line.run_id, null) else 0 end;
  v_load numeric := lull.note_load(p_line, p_lane.lane, p_size, p_paused_ms, v_others);
  v_lane lull.cleanup_lanes := lull.learn_size(p_lane, p_answer, p_size, v_ms, v_wal, lull.is_alone(v_load));
begin
  update lull.cleanup_lanes
  set cursor_clock = case when p_answer -> 'skipped' = 'null' then v_lane.cursor_clock else cursor_clock end,
    cursor_key = case when p_answer -> 'skipped' = 'null' then v_lane.cursor_key else cursor_key end,
    next_size = v_lane.next_size, suspects = v_lane.suspects, step = v_lane.step
  where run_id = p_line.run_id and policy = p_line.policy and lane = p_lane.lane;
  if (p_answer ->> 'done')::boolean then
    perform lull.end_lane(p_line, p_lane.lane);
  end if;
  perform lull.renew_lease(p_line.run_id, p_token);
  return p_answer || jsonb_build_object('others', v_others, 'active', v_active, 'wal', v_wal, 'ms', v_ms,
    'next_size', lull.next_size(v_lane), 'alone', lull.is_alone(v_load));
end
$$;

-- End a lane that found nothing more; the last one closes its policy.
create or replace function lull.end_lane(p_line lull.cleanup_run_policies, p_lane integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_line lull.cleanup_run_policies;
  v_policy lull.policy_definition;
  v_made lull.compiled_policies;
  v_more boolean := false;
  v_lane lull.cleanup_lanes;
begin
  -- Two lanes that end at once must see each other.
  select * into v_line from lull.cleanup_run_policies
  where run_id = p_line.run_id and policy = p_line.policy for no key update;
  update lull.cleanup_lanes set is_done = true
  where run_id = p_line.run_id and policy = p_line.policy and lane = p_lane
  returning * into v_lane;
  if exists (
    select 1 from lull.cleanup_lanes where run_id = p_line.run_id and policy = p_line.policy and not is_done
  ) then
    return;
  end if;
  v_policy := lull.read_definition(v_line.definition, v_line.position);
  if v_line.did >= v_line.allowed and v_line.only_key is null then
    v_more := lull.is_more(v_policy, v_line.cutoff, v_lane.cursor_clock, v_lane.cursor_key);
  end if;
  update lull.cleanup_run_policies
  set busy_count = case when v_line.did >= v_line.allowed then busy_count else lull.count_busy(v_line, v_policy) end,
    outcome = case when skipped_count > 0 then 'failed' when v_more then 'stopped' else 'completed' end,
    stop_reason = case when v_more then
      format('%s rows were taken, which is its limit, and more rows became stale meanwhile', did) end,
    error = case when skipped_count > 0 then format(
      '%s %s could not be deleted and left as before; everything else was done',
      skipped_count, case skipped_count when 1 then 'row' else 'rows' end) end,
    completed_at = clock_timestamp()
  where run_id = p_line.run_id and policy = p_line.policy and outcome = 'open';
end
$$;

-- How many stale rows a policy left because others had them or what is below them locked, when its last lane has ended:
-- among the oldest 10,000 that are left. Nothing is read where all went that was counted. Locks what is free.
create or replace function lull.count_busy(p_line lull.cleanup_run_policies, p_policy lull.policy_definition)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_most constant integer := 10000;
  v_table constant text := lull.from_table(p_policy.target::regclass, 't');
  v_left bigint;
  v_free bigint;
begin
  if p_line.only_key is not null or not p_line.capped and p_line.would <= p_line.did + p_line.skipped_count then
    return p_line.busy_count;
  end if;
  execute format(
    'with left_over as materialized (
       select t.tableoid as tab, t.ctid as place from %1$s where %2$s order by t.%3$I limit %4$s
     ), free as (
       select 1 from %1$s
       where t.ctid = any (array(select place from left_over))
         and (t.tableoid, t.ctid) in (select tab, place from left_over)
       for update of t skip locked
     )
     select (select count(*) from left_over), (select count(*) from free)',
    v_table, lull.stale_condition(p_policy, '$1'), p_policy.clock, c_most)
  into v_left, v_free using p_line.cutoff;
  -- Two lanes may both have met a row that is busy below.
  return v_left - v_free + least(p_line.busy_count, greatest(0, v_free - p_line.skipped_count));
end
$$;

-- Whether stale rows are left behind a cursor.
create or replace function lull.is_more(
  p_policy lull.policy_definition, p_cutoff timestamptz, p_clock timestamptz, p_key text[])
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_more boolean;
begin
  execute format('select exists (select 1 from %s where %s)', lull.from_table(p_policy.target::regclass, 't'),
    lull.all_of(lull.stale_condition(p_policy, '$1'), case when p_clock is not null then lull.cursor_condition(p_policy,
      (select key_columns from lull.targets where name = p_policy.target), '$2', '$3') end))
  into v_more
  using p_cutoff, p_clock, p_key;
  return v_more;
end
$$;
