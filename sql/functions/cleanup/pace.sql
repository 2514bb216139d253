-- Cleanup, pace: how large the next batch is, for every runner. Batches grow from one row by a factor of at most 2 to
-- what takes 125 ms while the database is idle but for the run, and 10 ms beside others.

-- Whether a load (others at work, on average) counts as idle.
create or replace function lull.is_alone(p_load numeric)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(p_load <= 0.1, false);
end
$$;

-- Begin to watch for other clients. Before the second batch the load is sampled for 30 ms: its result decides whether
-- to run at full speed. o_since: a connection that was at work since then counts at the end; null, beside another lane,
-- of which the connection would pass for another client between its batches.
create or replace function lull.begin_watch(
  p_line lull.cleanup_run_policies, p_lane integer, out o_since timestamptz, out o_others numeric)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select 1 from lull.cleanup_lanes
    where run_id = p_line.run_id and policy = p_line.policy and lane <> p_lane and not is_done
  ) then
    o_since := clock_timestamp();
  end if;
  if p_line.batches = 1 then
    perform pg_sleep(0.03);
  end if;
  o_others := case when o_since is null then lull.count_others(p_line.run_id, null) end;
end
$$;

-- How many other clients were at work during a batch.
create or replace function lull.end_watch(p_line lull.cleanup_run_policies, p_since timestamptz, p_others numeric)
returns numeric
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_others numeric := lull.count_others(p_line.run_id, p_since);
begin
  return (v_others + coalesce(p_others, v_others)) / 2;
end
$$;

-- How many other clients of this database are at work just now, or have been since then; null: just now. Batches of a
-- run know one another by the name that each gives its connection for as long as it lasts. A state that the owner of
-- Lull may not see counts as idle.
create or replace function lull.count_others(p_run uuid, p_since timestamptz)
returns numeric
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_stat_clear_snapshot();  -- within a transaction, the first look is the answer to all others
  return (
    select count(*)
    from pg_stat_get_activity(null) a
    where a.datid = (select oid from pg_catalog.pg_database where datname = current_database())
      and a.pid <> pg_backend_pid() and (a.state = 'active' or a.state_change > p_since)
      and a.backend_type = 'client backend' and a.application_name <> lull.batch_name(p_run));
end
$$;

-- Add to the report how the run was paced, and return the load: an exponential moving average of the clients at work
-- (one counts as much as many). It rises fast and falls slowly, because looks between short queries miss them.
create or replace function lull.note_load(
  p_line lull.cleanup_run_policies, p_lane integer, p_size integer, p_paused_ms double precision, p_others numeric)
returns numeric
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_load numeric;
begin
  update lull.cleanup_run_policies p
  set pacing = jsonb_build_object(
    'largest_batch', greatest((p.pacing ->> 'largest_batch')::integer, p_size),
    'paused_ms', round((coalesce((p.pacing ->> 'paused_ms')::double precision, 0) + p_paused_ms)::numeric, 1),
    'others', coalesce((p.pacing ->> 'others')::numeric, 0) + p_others,
    'samples', coalesce((p.pacing ->> 'samples')::integer, 0) + 1,
    'lanes', greatest((p.pacing ->> 'lanes')::integer, p_lane),
    'load', round(l.weight * coalesce((p.pacing ->> 'load')::numeric, least(1, p_others))
      + (1 - l.weight) * least(1, p_others), 4))
  from (
    select case when least(1, p_others) > (p_line.pacing ->> 'load')::numeric then 0.7 else 0.95 end as weight
  ) l
  where p.run_id = p_line.run_id and p.policy = p_line.policy
  returning (p.pacing ->> 'load')::numeric into v_load;
  return v_load;
end
$$;

-- How many rows a lane's next batch takes. Among `suspects` rows behind its cursor one makes batches fail: half of them
-- are tried, until it is alone and stepped over; after a time-out in steps.
create or replace function lull.next_size(p_lane lull.cleanup_lanes)
returns integer
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when p_lane.suspects > 0 then greatest(1, least(p_lane.step, p_lane.suspects / 2))
    else p_lane.next_size end;
end
$$;

-- What a batch of p_size rows taught its lane. Beside others, a batch of more than 10 rows that wrote much WAL counts
-- as longer (400 kB as 10 ms): a commit meanwhile waits for it to be written.
create or replace function lull.learn_size(
  p_lane lull.cleanup_lanes, p_answer jsonb, p_size integer, p_ms numeric, p_wal bigint, p_alone boolean)
returns lull.cleanup_lanes
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  c_most constant integer := 5000;
  v_target constant numeric := case when p_alone then 125 else 10 end;
  v_weight numeric := greatest(p_ms, case when p_alone or p_size <= 10 then 0 else p_wal / 40000.0 end, 0.1);
  v_lane lull.cleanup_lanes := p_lane;
  v_factor numeric := least(2, greatest(0.5, v_target / v_weight));
begin
  if p_answer -> 'skipped' <> 'null' then
    v_lane.suspects := 0;
  elsif p_answer -> 'failed' <> 'null' then
    v_lane.suspects := p_size;
    v_lane.step := greatest(1, p_size / 2);
  elsif v_lane.suspects > 0 then
    v_lane.suspects := greatest(0, v_lane.suspects - (p_answer ->> 'locked')::integer);
  elsif (p_answer ->> 'locked')::integer = p_size and p_size > 0 then
    -- A caller may have asked for less than was advised: what it does well says nothing against more.
    v_lane.next_size := least(c_most, greatest(1, case when v_factor > 1 then ceil(p_size * v_factor)
      else floor(p_size * v_factor) end,
      case when v_factor > 1 and p_size < v_lane.next_size then v_lane.next_size end));
  end if;
  return v_lane;
end
$$;

-- Note that a batch ran into its time-out, which undid all of it: no handler catches that. The next ones are much
-- smaller.
create or replace function lull.learn_timeout(p_run uuid, p_policy text, p_lane integer, p_size integer)
returns lull.cleanup_lanes
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.cleanup_lanes
  set suspects = p_size, next_size = case when p_size <= 500 then 1 else floor(sqrt(p_size)) end,
    step = case when p_size <= 500 then 1 else floor(sqrt(p_size)) end
  where run_id = p_run and policy = p_policy and lane = p_lane
  returning *;
$$;

-- The same for a runner outside the database. Renews the lease, which the time-out did not. Returns {"next_size"}.
create or replace function public.lull_note_timeout(
  p_run uuid, p_token uuid, p_policy text, p_lane integer, p_size integer)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '5s'
as $$
declare
  v_server constant name := lull.require_server();
  v_lane lull.cleanup_lanes;
begin
  perform lull.renew_lease(p_run, p_token);
  perform lull.lock_cleanup_lane(p_run, p_policy, p_lane);  -- the time-out may have undone the lane, too
  v_lane := lull.learn_timeout(p_run, p_policy, p_lane, p_size);
  return jsonb_build_object('next_size', lull.next_size(v_lane));
end
$$;
