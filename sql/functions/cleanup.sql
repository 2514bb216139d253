-- Cleanup, the run.
--
--   lull_preview_cleanup   the dry run: what each policy would take, and whether the breaker would stop it
--   lull_begin_cleanup     take the lease, freeze `at`, store the effective policies, open a line for each
--   lull_open_policy       freeze a policy's cutoff, preview it, let the breaker decide
--   lull_cleanup_batch     one transaction: select, lock, archive, delete, count
--   lull_skip_row          step over one row that a batch of one could not finish in time
--   lull_finish_cleanup    close the run and return its report
--   lull_restore_run       bring back what a run archived
--
-- The dry run and the real run share stale_rows(), preview_policy() and breaker(): a run takes what its dry run
-- shows. A run acts only with its id and lease token; each batch proves them again as its last statement, so that a
-- run that lost its lease commits nothing more. Bytes are in cleanup_files.sql, policies in cleanup_policies.sql.

-- Count what a policy would take at p_at, without changing anything: rows (exact up to 1,000,000), the rows and files
-- below them, the oldest clock. Children are counted for chunks of rows, so that memory stays bounded.
create or replace function lull.preview_policy(p_policy lull.policies, p_at timestamptz)
returns jsonb
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  c_most constant bigint := 1000000;
  c_chunk constant integer := 20000;
  v_cutoff timestamptz := p_at - p_policy.age;
  v_table regclass := p_policy.target::regclass;
  v_key text[];
  v_columns text[];
  v_has_children boolean;
  v_would bigint := 0;
  v_ctids tid[];
  v_rows jsonb[];
  v_counts jsonb;
  v_cascaded jsonb := '{}';
  v_oldest timestamptz;
  v_clock timestamptz;
  v_cursor text[];
begin
  select key_columns into v_key from lull.targets where name = p_policy.target;
  select v_key || p_policy.clock || lull.needed_columns(v_table, coalesce(jsonb_agg(to_jsonb(e)), '[]')), count(*) > 0
  into v_columns, v_has_children
  from lull.cascade_edges(v_table) e;

  if not v_has_children then
    execute format('select count(*), min(x.clock) from (select t.%I as clock from %s limit %s) x',
      p_policy.clock, lull.stale_rows(p_policy, v_cutoff), c_most + 1)
    into v_would, v_oldest;
  else
    loop
      execute format('select array_agg(x.ctid), array_agg(x.doc) from (select t.ctid, %s as doc from %s limit %s) x',
        lull.document_expression(v_table, 't', v_columns),
        lull.stale_rows(p_policy, v_cutoff, v_clock, v_cursor), least(c_chunk, c_most + 1 - v_would))
      into v_ctids, v_rows;
      exit when v_rows is null;
      v_would := v_would + cardinality(v_rows);
      v_oldest := coalesce(v_oldest, (v_rows[1] ->> p_policy.clock)::timestamptz);
      v_clock := (v_rows[cardinality(v_rows)] ->> p_policy.clock)::timestamptz;
      v_cursor := array(select v_rows[cardinality(v_rows)] ->> k.name from unnest(v_key) with ordinality k (name, n)
        order by k.n);
      select w.o_counts into v_counts from lull.walk_cascade(v_table, v_rows, v_ctids, false, 'needed') w;
      select coalesce(jsonb_object_agg(c.tab, c.n), '{}') into v_cascaded
      from (
        select tab, sum(n::bigint) as n
        from (select * from jsonb_each_text(v_cascaded) union all select * from jsonb_each_text(v_counts)) u (tab, n)
        group by tab
      ) c;
      exit when cardinality(v_rows) < c_chunk or v_would > c_most;
    end loop;
  end if;

  return jsonb_build_object(
    'policy', p_policy.name, 'target', p_policy.target, 'cutoff', v_cutoff,
    'would', least(v_would, c_most), 'capped', v_would > c_most,
    'cascaded', v_cascaded,
    'cascaded_total', (select coalesce(sum(value::bigint), 0) from jsonb_each_text(v_cascaded)),
    'files', coalesce((v_cascaded ->> 'lull.session_files')::bigint, 0),
    'oldest', v_oldest, 'error', null, 'sample', '[]'::jsonb);
end
$$;

-- The oldest rows that a policy would take: [{"key", "kind", "status", "clock", "files"}].
create or replace function lull.sample_policy(p_policy lull.policies, p_at timestamptz, p_limit integer)
returns jsonb
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_key text[];
  v_sample jsonb;
begin
  select key_columns into v_key from lull.targets where name = p_policy.target;
  execute format(
    $q$select coalesce(jsonb_agg(jsonb_build_object(
        'key', lull.key_text(x.doc, $1), 'kind', x.doc -> 'kind', 'status', x.doc -> 'status', 'clock', x.clock,
        'files', case when $2 then
          (select count(*) from lull.session_files f where f.session_id = (x.doc ->> 'id')::uuid) else 0 end)
        order by x.n), '[]')
      from (select row_number() over () as n, y.* from (
        select %s as doc, t.%I as clock from %s limit $3) y) x$q$,
    lull.document_expression(p_policy.target::regclass, 't', v_key || '{kind,status}'::text[]),
    p_policy.clock, lull.stale_rows(p_policy, p_at - p_policy.age))
  into v_sample
  using v_key, p_policy.target = 'lull.sessions', p_limit;
  return v_sample;
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

-- The breaker: how many rows a policy may take, and why it must not start. An operator's p_max_rows takes the place
-- of max_rows and growth, and raises the limit on cascaded rows in the same proportion.
-- Returns {"limit", "stop", "stop_reason"}.
create or replace function lull.breaker(p_policy lull.policies, p_preview jsonb, p_max_rows bigint)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_would bigint := (p_preview ->> 'would')::bigint;
  v_more text := case when (p_preview ->> 'capped')::boolean then 'more than ' else '' end;
  v_limit bigint := coalesce(p_max_rows, p_policy.max_rows);
  v_cascade_limit bigint := p_policy.max_cascaded * greatest(1, ceil(v_limit::numeric / p_policy.max_rows));
  v_median numeric;
  v_growth bigint;
  v_matching bigint;
  v_stop text;
  v_reason text;
begin
  if p_max_rows is null and p_policy.growth_factor is not null then
    select percentile_cont(0.5) within group (order by r.did) into v_median
    from (
      select did from lull.cleanup_run_policies
      where policy = p_policy.name and outcome = 'completed'
      order by completed_at desc
      limit 14
    ) r;
    v_growth := greatest(p_policy.growth_floor, ceil(p_policy.growth_factor * v_median));
  end if;

  if v_would > v_limit or (v_more <> '' and v_would >= v_limit) then
    v_stop := 'max_rows';
    v_reason := format('%s%s rows would go and the limit is %s', v_more, v_would, v_limit);
  elsif v_median is not null and v_would > v_growth then
    v_stop := 'max_growth';
    v_reason := format('%s rows would go, and its last runs took %s (median); the limit is now %s',
      v_would, v_median::bigint, v_growth);
  elsif (p_preview ->> 'cascaded_total')::bigint > v_cascade_limit then
    v_stop := 'max_cascaded';
    v_reason := format('%s rows below them would go along and the limit is %s',
      p_preview ->> 'cascaded_total', v_cascade_limit);
  elsif p_policy.max_percent is not null and p_max_rows is null and v_would > 0 then
    execute format('select count(*) from %s t where %s', p_policy.target::regclass, lull.policy_condition(p_policy))
    into v_matching;
    if 100.0 * v_would > p_policy.max_percent * v_matching then
      v_stop := 'max_percent';
      v_reason := format('%s of %s rows would go and the limit is %s %%', v_would, v_matching, p_policy.max_percent);
    end if;
  end if;
  return jsonb_build_object(
    'limit', case when v_median is null then v_limit else least(v_limit, v_growth) end,
    'stop', v_stop, 'stop_reason', v_reason);
end
$$;

-- The dry run. Read only: PostgREST runs a stable function in a read-only transaction.
--   p_policies  the policies as the caller's settings give them, so that a dry run shows what its own run would do
--   p_at        simulate another time (default: now)
--   p_sample    the policy to sample, p_limit rows of it;  p_max_rows  what an operator would let through for it
create or replace function public.lull_preview_cleanup(
  p_policies jsonb, p_at timestamptz default null, p_sample text default null, p_limit integer default 20,
  p_max_rows bigint default null)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '30s'
set timezone = 'UTC'
set datestyle = 'ISO'
set extra_float_digits = '1'
as $$
declare
  v_at timestamptz := coalesce(p_at, now());
  v_policy lull.policies;
  v_row record;
  v_line jsonb;
  v_reason text;
  v_lines jsonb := '[]';
begin
  for v_row in select p, n from jsonb_array_elements(p_policies) with ordinality x (p, n) order by n loop
    v_policy := lull.read_policy(v_row.p, v_row.n::integer);
    v_reason := lull.check_policy(v_policy);
    if v_reason is null then
      v_line := lull.preview_policy(v_policy, v_at);
      v_line := v_line || lull.breaker(v_policy, v_line, case when v_policy.name = p_sample then p_max_rows end);
      if v_policy.name = p_sample then
        v_line := v_line || jsonb_build_object('sample', lull.sample_policy(v_policy, v_at, p_limit));
      end if;
    else
      v_line := lull.empty_preview(v_policy, v_at, v_reason);
    end if;
    v_lines := v_lines || v_line;
  end loop;
  return jsonb_build_object('at', v_at, 'policies', v_lines);
end
$$;

-- The preview of a policy that cannot run.
create or replace function lull.empty_preview(p_policy lull.policies, p_at timestamptz, p_error text)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'policy', p_policy.name, 'target', p_policy.target, 'cutoff', p_at - p_policy.age, 'would', 0, 'capped', false,
    'cascaded', '{}'::jsonb, 'cascaded_total', 0, 'files', 0, 'oldest', null, 'limit', null, 'stop', null,
    'stop_reason', null, 'error', p_error, 'sample', '[]'::jsonb);
$$;

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
    exception when unique_violation then
      null;  -- another begin was first: look again
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
      select max(completed_at) as last from lull.cleanup_run_policies c
      where c.policy = e ->> 'name' and c.outcome = 'completed'
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

-- Open a policy of a run: freeze its cutoff, preview it, let the breaker decide. Returns the preview with "outcome":
-- `open`, `stopped` (nothing of the policy will be touched) or `failed`. Renews the lease.
create or replace function public.lull_open_policy(p_run uuid, p_token uuid, p_policy text)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '30s'
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
    set cutoff = (v_preview ->> 'cutoff')::timestamptz, would = (v_preview ->> 'would')::bigint,
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
set lock_timeout = '500ms'
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
    p_policy.target::regclass, p_rows, p_ctids, true, case when p_policy.archive then 'full' else 'needed' end);
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

  if p_policy.target = 'lull.sessions' then
    perform lull.append_events(p_rows, case when p_policy.archive then 'archived' else 'purged' end,
      jsonb_build_object('run', p_run, 'policy', p_policy.name));
    if not p_policy.archive then
      perform lull.leave_tombstones(p_rows);
    end if;
  end if;
end
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
        'skipped_rows', p.skipped, 'busy', p.busy_count,
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
