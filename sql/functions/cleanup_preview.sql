-- Cleanup, the preview: what a policy would take, and whether the breaker lets it. The dry run and the real run share
-- preview_policy() and breaker() with the selection in cleanup_policies.sql: a run takes what its dry run shows.

-- Count what a policy would take at p_at, without changing anything: rows (exact up to 1,000,000), the rows and files
-- below them, the oldest clock.
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
  v_cutoff timestamptz := p_at - p_policy.age;
  v_stale text := lull.stale_rows(p_policy, v_cutoff);
  v_would bigint;
  v_oldest timestamptz;
  v_cascaded jsonb;
begin
  execute format('select count(*), min(x.clock) from (select t.%I as clock from %s limit %s) x',
    p_policy.clock, v_stale, c_most + 1)
  into v_would, v_oldest;
  v_cascaded := case
    when v_would = 0 then '{}'
    when lull.is_flat(p_policy.target::regclass) then lull.count_children(p_policy, v_stale, c_most)
    else lull.count_cascade(p_policy, v_cutoff, c_most) end;
  return jsonb_build_object(
    'policy', p_policy.name, 'target', p_policy.target, 'cutoff', v_cutoff,
    'would', least(v_would, c_most), 'capped', v_would > c_most,
    'cascaded', v_cascaded,
    'cascaded_total', (select coalesce(sum(value::bigint), 0) from jsonb_each_text(v_cascaded)),
    'files', coalesce((v_cascaded ->> 'lull.session_files')::bigint, 0),
    'oldest', v_oldest, 'error', null, 'sample', '[]'::jsonb);
end
$$;

-- Count the rows directly below the first p_most stale rows of a table with a flat cascade. Each key goes as one sorted
-- array, which a child's index is walked along with, without a look at the table.
create or replace function lull.count_children(p_policy lull.policies, p_stale text, p_most bigint)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_query text;
  v_counts jsonb;
begin
  select format('with %s select jsonb_build_object(%s)',
    string_agg(distinct format(
      'keys_%1$s as materialized (select array(select x.k from (select t.%2$I as k from %3$s limit %4$s) x order by x.k) as k)',
      k.n, e.parent_columns[1], p_stale, p_most), ', '),
    string_agg(format('%L, (select nullif(count(*), 0) from %s c where c.%I = any ((select k from keys_%s)::%s[]))',
      e.child::text, e.child, e.child_columns[1], k.n, e.key_types[1]), ', '))
  into v_query
  from lull.cascade_edges(p_policy.target::regclass) e
  join (
    select name, row_number() over () as n from lull.table_columns(p_policy.target::regclass)
  ) k on k.name = e.parent_columns[1]
  having count(*) > 0;
  if v_query is null then
    return '{}';
  end if;
  execute v_query into v_counts;
  return jsonb_strip_nulls(v_counts);
end
$$;

-- Count the rows at any depth below the first p_most stale rows. They are walked in chunks, so that memory stays bounded.
create or replace function lull.count_cascade(p_policy lull.policies, p_cutoff timestamptz, p_most bigint)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  c_chunk constant integer := 20000;
  v_table regclass := p_policy.target::regclass;
  v_key text[];
  v_columns text[];
  v_done bigint := 0;
  v_rows jsonb[];
  v_counts jsonb;
  v_cascaded jsonb := '{}';
  v_clock timestamptz;
  v_cursor text[];
begin
  select key_columns into v_key from lull.targets where name = p_policy.target;
  select v_key || p_policy.clock || lull.document_columns(v_table, jsonb_agg(to_jsonb(e)), 'keys') into v_columns
  from lull.cascade_edges(v_table) e;
  loop
    execute format('select array_agg(x.doc) from (select %s as doc from %s limit %s) x',
      lull.document_expression(v_table, 't', v_columns),
      lull.stale_rows(p_policy, p_cutoff, v_clock, v_cursor), least(c_chunk, p_most - v_done))
    into v_rows;
    exit when v_rows is null;
    v_done := v_done + cardinality(v_rows);
    v_clock := (v_rows[cardinality(v_rows)] ->> p_policy.clock)::timestamptz;
    v_cursor := array(select v_rows[cardinality(v_rows)] ->> k.name from unnest(v_key) with ordinality k (name, n)
      order by k.n);
    select w.o_counts into v_counts from lull.walk_cascade(v_table, v_rows, false, 'keys') w;
    select coalesce(jsonb_object_agg(c.tab, c.n), '{}') into v_cascaded
    from (
      select tab, sum(n::bigint) as n
      from (select * from jsonb_each_text(v_cascaded) union all select * from jsonb_each_text(v_counts)) u (tab, n)
      group by tab
    ) c;
    exit when cardinality(v_rows) < c_chunk;
  end loop;
  return v_cascaded;
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

-- The breaker: how many rows a policy may take, and why it must not start. An operator's p_max_rows takes the place
-- of every limit: whoever names it has read how many rows there are, and how many below them.
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
  elsif p_max_rows is null and (p_preview ->> 'cascaded_total')::bigint > p_policy.max_cascaded then
    v_stop := 'max_cascaded';
    v_reason := format('%s rows below them would go along and the limit is %s',
      p_preview ->> 'cascaded_total', p_policy.max_cascaded);
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
set lock_timeout = '2s'
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
