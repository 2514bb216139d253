-- Cleanup, a batch: one transaction that locks stale rows and everything below them, archives, deletes and counts. What
-- comes before and after it is in cleanup.sql.

-- One batch, one transaction. Locks up to p_size stale rows behind the cursor (rows that others hold are left for the
-- next run), then every level below them, archives, deletes, counts, and renews the lease.
-- A statement that fails undoes the batch but not the call: {"failed": {"sqlstate", "message", "size"}} asks for a
-- smaller size; with one row, the row is stepped over and named in "skipped".
create or replace function public.lull_cleanup_batch(p_run uuid, p_token uuid, p_policy text, p_size integer)
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
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_started timestamptz := clock_timestamp();
  v_line lull.cleanup_run_policies;
  v_policy lull.policies;
  v_key text[];
  v_size integer;
  v_ctids tid[];
  v_rows jsonb[];
  v_removed record;
  v_answer jsonb := '{"locked": 0, "deleted": 0, "cascaded": 0, "files": 0, "done": false, "failed": null, "skipped": null}';
begin
  perform lull.check_lease(p_run, p_token);
  select * into v_line from lull.cleanup_run_policies where run_id = p_run and policy = p_policy for update;
  if v_line.outcome is distinct from 'open' then
    return v_answer || '{"done": true, "ms": 0}';
  end if;
  if exists (select 1 from lull.switches where name = 'cleanup' and is_on) then
    update lull.cleanup_run_policies
    set outcome = 'stopped', stop_reason = 'the cleanup was paused meanwhile', completed_at = clock_timestamp()
    where run_id = p_run and policy = p_policy;
    return v_answer || '{"done": true, "ms": 0}';
  end if;
  v_policy := lull.read_policy(v_line.definition, v_line.position);
  select key_columns into v_key from lull.targets where name = v_policy.target;
  v_size := least(greatest(p_size, 1), v_line.allowed - v_line.did);

  begin
    select o_ctids, o_rows into v_ctids, v_rows from lull.lock_stale_rows(v_policy, v_line, v_key, v_size);
    select * into v_removed from lull.remove_rows(p_run, v_policy, v_key, v_ctids, v_rows);
    v_answer := v_answer || jsonb_build_object(
      'locked', cardinality(v_rows), 'deleted', v_removed.o_deleted, 'cascaded', v_removed.o_cascaded,
      'files', v_removed.o_files, 'done', cardinality(v_rows) < v_size or v_size = 0);
    update lull.cleanup_run_policies
    set did = did + v_removed.o_deleted, cascaded = cascaded + v_removed.o_cascaded,
      files = files + v_removed.o_files, batches = batches + 1,
      ms = ms + extract(epoch from clock_timestamp() - v_started) * 1000
    where run_id = p_run and policy = p_policy;
    perform lull.move_cursor(p_run, v_policy, v_key, v_rows[cardinality(v_rows)]);
  exception when others then
    v_answer := v_answer || jsonb_build_object(
      'failed', jsonb_build_object('sqlstate', sqlstate, 'message', sqlerrm, 'size', v_size));
    if v_size = 1 then
      v_answer := v_answer || lull.isolate_failure(p_run, v_policy, v_line, v_key, v_rows, sqlstate, sqlerrm);
    end if;
  end;

  if (v_answer ->> 'done')::boolean then
    perform lull.close_policy(p_run, v_policy);
  end if;
  perform lull.renew_lease(p_run, p_token);
  return v_answer || jsonb_build_object(
    'ms', round((extract(epoch from clock_timestamp() - v_started) * 1000)::numeric, 1));
end
$$;

-- Lock the oldest stale rows behind the cursor. A row that somebody else holds is passed over; one that changed while
-- it was being locked is judged again as it is now. Returns their places and documents, oldest first.
create or replace function lull.lock_stale_rows(
  p_policy lull.policies, p_line lull.cleanup_run_policies, p_key text[], p_size integer,
  out o_ctids tid[], out o_rows jsonb[])
language plpgsql
set search_path = ''
as $$
declare
  v_table regclass := p_policy.target::regclass;
  v_columns text[];
begin
  if not p_policy.archive then
    select p_key || p_policy.clock || lull.needed_columns(v_table, coalesce(jsonb_agg(to_jsonb(e)), '[]'))
    into v_columns
    from lull.cascade_edges(v_table) e;
  end if;
  execute format(
    'select coalesce(array_agg(x.ctid), ''{}''), coalesce(array_agg(x.doc), ''{}'')
     from (select t.ctid, %s as doc from %s limit %s for update of t skip locked) x',
    lull.document_expression(v_table, 't', v_columns),
    lull.stale_rows(p_policy, p_line.cutoff, p_line.cursor_clock, p_line.cursor_key), p_size)
  into o_ctids, o_rows;
end
$$;

-- Archive (or queue the bytes of) locked rows and everything below them, then delete them. Raises unless exactly the
-- locked rows were archived and deleted, so that the batch undoes itself.
create or replace function lull.remove_rows(
  p_run uuid, p_policy lull.policies, p_key text[], p_ctids tid[], p_rows jsonb[],
  out o_deleted integer, out o_cascaded integer, out o_files integer)
language plpgsql
set search_path = ''
as $$
declare
  v_below record;
  v_archived integer;
begin
  select * into v_below from lull.walk_cascade(
    p_policy.target::regclass, p_rows, true, case when p_policy.archive then 'full' else 'needed' end);
  o_cascaded := cardinality(v_below.o_row);
  o_files := coalesce((v_below.o_counts ->> 'lull.session_files')::integer, 0);

  if p_policy.archive then
    v_archived := lull.archive_rows(p_run, p_policy.name, p_policy.target,
      array(select lull.key_text(d, p_key) from unnest(p_rows) with ordinality u (d, n) order by n),
      p_rows, v_below.o_root, v_below.o_table, v_below.o_row, p_policy.restore_window);
    if v_archived <> cardinality(p_rows) then
      raise exception 'only % of % rows could be archived', v_archived, cardinality(p_rows);
    end if;
  else
    perform lull.queue_file_removals(
      array(select d from unnest(v_below.o_table, v_below.o_row) u (tab, d) where tab = 'lull.session_files')
      || case when p_policy.target = 'lull.session_files' then p_rows end);
  end if;

  -- Bytes of these files are the archive's business, not that of the trigger on lull.session_files.
  perform set_config('lull.cleaning', 'on', true);
  if p_policy.target = 'lull.archive' then
    o_deleted := lull.purge_archived(array(select (d ->> 'id')::bigint from unnest(p_rows) d));
  else
    execute format('delete from %s where ctid = any ($1)', p_policy.target::regclass) using p_ctids;
    get diagnostics o_deleted = row_count;
  end if;
  if o_deleted <> cardinality(p_rows) then
    raise exception 'the database deleted % of % rows without an error: a trigger keeps the rest',
      o_deleted, cardinality(p_rows);
  end if;
  perform lull.check_nothing_stayed(p_policy.target::regclass, p_rows, v_below.o_table, v_below.o_row);
  perform set_config('lull.cleaning', 'off', true);

  if p_policy.target = 'lull.sessions' then
    perform lull.append_events(p_rows, case when p_policy.archive then 'archived' else 'purged' end,
      jsonb_build_object('run', p_run, 'policy', p_policy.name));
    if not p_policy.archive then
      perform lull.leave_tombstones(p_rows);
    end if;
  end if;
end
$$;

-- Raise when a row below the deleted ones is still there: a BEFORE DELETE trigger can keep a child although its parent
-- goes, and would leave it without one. Looks only where there is such a trigger.
create or replace function lull.check_nothing_stayed(
  p_target regclass, p_rows jsonb[], p_tables text[], p_children jsonb[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_edge record;
  v_parents jsonb[];
  v_roots integer[];
  v_stayed jsonb[];
  v_places text[];
begin
  for v_edge in
    select e.* from lull.cascade_edges(p_target) e
    where exists (
      select 1 from pg_catalog.pg_trigger t
      where t.tgrelid = e.child and not t.tgisinternal and t.tgtype & 11 = 11)  -- each row, before, delete
  loop
    v_parents := case when v_edge.parent = p_target then p_rows else '{}' end
      || array(select d from unnest(p_tables, p_children) u (tab, d) where tab = v_edge.parent::text);
    execute lull.cascade_query(v_edge.child, v_edge.parent_columns, v_edge.child_columns, v_edge.key_types, '{}', false)
    into v_roots, v_stayed, v_places
    using array_fill(1, array[cardinality(v_parents)]), v_parents, '{}'::text[];
    if v_places is not null then
      raise exception 'a trigger keeps rows of % that would have gone along', v_edge.child;
    end if;
  end loop;
end
$$;

-- A row's key as one text: the value of a single column, a JSON array of several.
create or replace function lull.key_text(p_document jsonb, p_columns text[])
returns text
language sql
immutable
set search_path = ''
as $$
  select case when cardinality(p_columns) = 1 then p_document ->> p_columns[1]
    else (select jsonb_agg(p_document -> c order by n)::text from unnest(p_columns) with ordinality u (c, n)) end;
$$;

-- Remember the last row locked: the next batch begins behind it, whether it was deleted or not.
create or replace function lull.move_cursor(p_run uuid, p_policy lull.policies, p_key text[], p_row jsonb)
returns void
language sql
set search_path = ''
as $$
  update lull.cleanup_run_policies
  set cursor_clock = (p_row ->> p_policy.clock)::timestamptz,
    cursor_key = array(select p_row ->> c from unnest(p_key) with ordinality u (c, n) order by n)
  where run_id = p_run and policy = p_policy.name and p_row is not null;
$$;

-- A batch of one row failed: step over the row. When there is none to blame, what fails is the selection itself, and
-- the policy is closed as failed. Returns {"skipped"} or {"done": true}.
create or replace function lull.isolate_failure(
  p_run uuid, p_policy lull.policies, p_line lull.cleanup_run_policies, p_key text[], p_rows jsonb[], p_sqlstate text,
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
      select o_rows into v_rows from lull.lock_stale_rows(p_policy, p_line, p_key, 1);
    exception when others then
      null;
    end;
  end if;
  if v_rows[1] is not null then
    return jsonb_build_object('skipped', lull.step_over(p_run, p_policy, p_key, v_rows[1], p_sqlstate, p_reason));
  end if;
  update lull.cleanup_run_policies
  set outcome = 'failed', error = p_reason, completed_at = clock_timestamp()
  where run_id = p_run and policy = p_policy.name;
  return '{"done": true}';
end
$$;

-- Step over a row that cannot be deleted. One that is only busy (locked by others) is left for the next run without
-- a fuss; any other is reported and makes the policy fail in the end. Returns {"key", "reason"}.
create or replace function lull.step_over(
  p_run uuid, p_policy lull.policies, p_key text[], p_row jsonb, p_sqlstate text, p_reason text)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_busy boolean := p_sqlstate in ('55P03', '40P01');
  v_skipped jsonb := jsonb_build_object('key', lull.key_text(p_row, p_key), 'reason', p_reason);
begin
  perform lull.move_cursor(p_run, p_policy, p_key, p_row);
  update lull.cleanup_run_policies
  set busy_count = busy_count + v_busy::integer,
    skipped_count = skipped_count + (not v_busy)::integer,
    skipped = case when v_busy or skipped_count >= 100 then skipped else skipped || v_skipped end
  where run_id = p_run and policy = p_policy.name;
  return v_skipped;
end
$$;

-- Close a policy that has no stale rows left behind its cursor, or has used up what the breaker allowed it.
create or replace function lull.close_policy(p_run uuid, p_policy lull.policies)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_line lull.cleanup_run_policies;
  v_more boolean := false;
begin
  select * into v_line from lull.cleanup_run_policies where run_id = p_run and policy = p_policy.name;
  if v_line.did >= v_line.allowed then
    execute format('select exists (select 1 from %s)',
      lull.stale_rows(p_policy, v_line.cutoff, v_line.cursor_clock, v_line.cursor_key))
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
  where run_id = p_run and policy = p_policy.name and outcome = 'open';
end
$$;

-- Step over the next stale row after a batch of one ran into its time-out (which no exception handler can catch).
create or replace function public.lull_skip_row(p_run uuid, p_token uuid, p_policy text, p_reason text)
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
  select * into v_line from lull.cleanup_run_policies where run_id = p_run and policy = p_policy for update;
  if v_line.outcome = 'open' then
    v_policy := lull.read_policy(v_line.definition, v_line.position);
    select key_columns into v_key from lull.targets where name = v_policy.target;
    select o_rows[1] into v_row from lull.lock_stale_rows(v_policy, v_line, v_key, 1);
    if v_row is null then
      perform lull.close_policy(p_run, v_policy);
    else
      v_skipped := lull.step_over(p_run, v_policy, v_key, v_row, '57014', p_reason);
    end if;
  end if;
  perform lull.renew_lease(p_run, p_token);
  return jsonb_build_object('locked', 0, 'deleted', 0, 'cascaded', 0, 'files', 0, 'done', v_skipped is null, 'ms', 0,
    'failed', null, 'skipped', v_skipped);
end
$$;
