-- Cleanup, the preview: what a policy would take, and whether the breaker lets it. The dry run and the real run share
-- preview_definition() and breaker_of() with the selection in cleanup/policies.sql: a run takes what its dry run shows.

-- Count what a policy would take at p_at, whose selection is p_stale, without changing anything: rows (exact up to
-- 1,000,000), the rows and files below them, the oldest clock. Rows from outside that refer to a candidate keep it, and
-- it is not counted.
create or replace function lull.preview_definition(
  p_policy lull.policy_definition, p_at timestamptz, p_stale text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  c_most constant bigint := 1000000;
  v_cutoff timestamptz := p_at - p_policy.age;
  v_is_any boolean;
  v_would bigint := 0;
  v_oldest timestamptz;
  v_cascaded jsonb := '{}';
begin
  execute format('select exists (select 1 from %s limit 1)', p_stale) into v_is_any;
  if v_is_any then  -- most policies most nights: none, and nothing to follow
    execute lull.count_statement(p_policy, p_stale, c_most + 1) into v_would, v_oldest, v_cascaded;
  end if;
  return jsonb_build_object(
    'policy', coalesce(p_policy.base, p_policy.name), 'line', p_policy.name, 'target', p_policy.target,
    'table', case when p_policy.base is not null then p_policy.target end, 'cutoff', v_cutoff,
    'would', least(v_would, c_most), 'capped', v_would > c_most,
    'cascaded', v_cascaded,
    'cascaded_total', (select coalesce(sum(value::bigint), 0) from jsonb_each_text(v_cascaded)),
    'files', coalesce((v_cascaded ->> 'lull.session_files')::bigint, 0),
    'oldest', v_oldest, 'error', null, 'sample', '[]'::jsonb);
end
$$;

-- The statement that counts the first p_most stale rows and what is at any depth below them: how many, their oldest
-- clock, and {"table": rows} (rows that several foreign keys lead to count once). It selects them once. Each table that
-- is reached by one foreign key of one column from one table is counted along its index, by the sorted keys of that
-- table's rows; any other shape by the places of its rows.
create or replace function lull.count_statement(p_policy lull.policy_definition, p_stale text, p_most bigint)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with edge as materialized (
    select * from lull.count_edges(p_policy)
  ), keys as (
    select distinct e.parent_n, e.parent, e.parent_columns[1] as name from edge e
  )
  select case
    when not exists (select 1 from edge) then format(
      'select count(*), min(x.clock), ''{}''::jsonb from (select t.%I as clock from %s limit %s) x',
      p_policy.clock, p_stale, p_most)
    when (select bool_and(e.is_simple) from edge e) then format(
      'with stale as materialized (select %s from %s limit %s)%s
       select (select count(*) from stale), (select min(clock) from stale), jsonb_strip_nulls(jsonb_build_object(%s))',
      (select string_agg(format('t.%I as %I', k.name, 'k' || k.name), ', ') from keys k where k.parent_n = 1)
        || format(', t.%I as clock', p_policy.clock), p_stale, p_most,
      (select string_agg(format(', %I as materialized (select array(select x.k from (%s) x order by 1) as k)',
          'k' || k.parent_n || k.name,
          case when k.parent_n = 1 then format('select s.%I as k from stale s', 'k' || k.name)
          else (
            select format('select c.%I as k from %s where c.%I = any ((select k from %I)::%s[])', k.name,
              lull.from_table(e.child, 'c'), e.child_columns[1], 'k' || e.parent_n || e.parent_columns[1],
              lull.column_type(e.parent, e.parent_columns[1]))
            from edge e where e.child = k.parent) end), '' order by k.parent_n) from keys k),
      (select string_agg(format('%L, (select nullif(count(*), 0) from %s where c.%I = any ((select k from %I)::%s[]))',
          e.child::regclass::text, lull.from_table(e.child, 'c'), e.child_columns[1],
          'k' || e.parent_n || e.parent_columns[1],
          lull.column_type(e.parent, e.parent_columns[1])), ', ') from edge e))
    else format(
      'with recursive stale as materialized (select t.tableoid, t.ctid, t.%I as clock from %s limit %s),
       below (node, tab, ctid) as (
         select 1, x.tableoid, x.ctid from stale x
         union
         select x.* from below b cross join lateral (%s) x
       ) select (select count(*) from stale), (select min(clock) from stale), (
         select coalesce(jsonb_object_agg(c.name, c.n), ''{}'') from (
           select n.name, count(distinct (b.tab, b.ctid)) as n from below b
           join (values %s) n (node, name) on n.node = b.node where b.node <> 1 group by n.name) c)',
      p_policy.clock, p_stale, p_most,
      (select string_agg(format('select %s, c.tableoid, c.ctid from %s join %s on %s
          where p.ctid = b.ctid and p.tableoid = b.tab and b.node = %s',
          e.child_n, lull.from_table(e.referenced, 'p'), lull.from_table(e.child, 'c'),
          lull.edge_match(e.constraint_oid, e.parent, e.parent_columns, 'p', 'c'), e.parent_n), ' union all ')
        from edge e),
      (select string_agg(format('(%s, %L)', n.n, n.archived_as), ', ') from lull.cascade_nodes(p_policy) n))
    end;
$$;

-- The foreign keys that the rows below a policy's are found along. is_simple: whether the whole shape can be counted
-- along indexes.
create or replace function lull.count_edges(p_policy lull.policy_definition)
returns table (parent oid, parent_n integer, parent_columns text[], referenced oid, child oid, child_n integer,
  child_columns text[], constraint_oid oid, is_simple boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with node as materialized (
    select * from lull.cascade_nodes(p_policy)
  ), edge as materialized (
    select g.*, c.n as child_n, p.n as parent_n
    from lull.cascade_graph(p_policy.target::regclass) g
    join node c on c.node = g.child and c.rule in ('along', 'clock')
    join node p on p.node = g.parent
    where g.cascades
  )
  select e.parent, e.parent_n, e.parent_columns, e.referenced, e.child, e.child_n, e.child_columns, e.constraint_oid,
    cardinality(e.parent_columns) = 1 and e.constraint_oid is not null and e.referenced = e.parent
    and (select count(*) from edge o where o.child = e.child) = 1
    and e.child_n > e.parent_n
    and not exists (  -- an array of arrays is one array, whose elements are not the keys
      select 1 from pg_catalog.pg_attribute a
      join pg_catalog.pg_type t on t.oid = a.atttypid and t.typcategory = 'A'
      where a.attrelid = e.parent and a.attname = any (e.parent_columns::name[]))
    and (select sum(cardinality(leaves)) = sum(cardinality(own_leaves)) from node)
  from edge e;
$$;

-- The oldest rows of a policy's selection: [{"key", "kind", "status", "clock", "files"}].
create or replace function lull.sample_definition(p_policy lull.policy_definition, p_stale text, p_limit integer)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_key text[];
  v_sample jsonb;
begin
  select key_columns into v_key from lull.targets where name = p_policy.target;
  execute format(
    $q$select coalesce(jsonb_agg(jsonb_build_object(
        'key', x.key, 'kind', x.kind, 'status', x.status, 'clock', x.clock,
        'files', case when $1 then
          (select count(*) from lull.session_files f where f.session_id = x.key::uuid) else 0 end)
        order by x.n), '[]')
      from (select row_number() over () as n, y.* from (
        select %s as key, %s as kind, %s as status, t.%I as clock from %s limit $2) y) x$q$,
    lull.key_form(v_key, 't'), lull.optional_text(p_policy.target::regclass, 'kind'),
    lull.optional_text(p_policy.target::regclass, 'status'), p_policy.clock,
    p_stale)
  into v_sample
  using p_policy.target = 'lull.sessions', p_limit;
  return v_sample;
end
$$;

-- A column of t as text, or null where the table has none of that name.
create or replace function lull.optional_text(p_table regclass, p_column text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when lull.column_type(p_table, p_column) is null then 'null::text'
    else format('t.%I::text', p_column) end;
$$;

-- The dry run. Read only: PostgREST runs a stable function in a read-only transaction.
--   p_policies  the policies as the caller's settings give them, so that a dry run shows what its own run would do;
--               what that run would refuse has an "error". {"age_is_simulated": true}: its age may be any
--   p_at        simulate another time (default: now)
--   p_sample    the policy to sample, p_limit rows of it;  p_max_rows  what an operator would let through for it
create or replace function public.lull_preview_cleanup(
  p_policies jsonb, p_at timestamptz default null, p_sample text default null, p_limit integer default 20,
  p_max_rows bigint default null)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '30s'
set lock_timeout = '2s'
set timezone = 'UTC'
set datestyle = 'ISO'
set extra_float_digits = '1'
as $$
declare
  v_server constant name := lull.require_server();
  v_at timestamptz := coalesce(p_at, now());
  v_policy lull.policy_definition;
  v_row record;
  v_line jsonb;
  v_reason text;
  v_selection text;
  v_lines jsonb := '[]';
begin
  for v_row in
    select l as policy, x.p ->> 'refusal' as refusal
    from jsonb_array_elements(lull.bound_policies(p_policies, p_simulates => true)) with ordinality x (p, n)
    cross join lateral lull.policy_lines(lull.read_definition(x.p -> 'definition', x.n::integer)) l
    order by x.n
  loop
    v_policy := v_row.policy;
    select o_reason, o_selection into v_reason, v_selection from lull.check_selection(v_policy, v_at);
    v_reason := coalesce(v_reason, v_row.refusal);
    if v_reason is null then
      v_line := lull.preview_definition(v_policy, v_at, v_selection);
      v_line := v_line || lull.breaker_of(v_policy, v_line,
        case when p_sample in (v_policy.name, v_policy.base) then p_max_rows end);
      if p_sample in (v_policy.name, v_policy.base) then
        v_line := v_line || jsonb_build_object('sample', lull.sample_definition(v_policy, v_selection, p_limit));
      end if;
    else
      v_line := lull.uncounted_preview(v_policy, v_at, v_reason);
    end if;
    v_line := v_line || jsonb_build_object('notes', lull.line_notes(to_jsonb(v_policy), v_at - v_policy.age));
    v_lines := v_lines || v_line;
  end loop;
  return jsonb_build_object('at', v_at, 'policies', v_lines);
end
$$;

-- The preview of a policy that cannot run.
create or replace function lull.uncounted_preview(p_policy lull.policy_definition, p_at timestamptz, p_error text)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'policy', coalesce(p_policy.base, p_policy.name), 'line', p_policy.name, 'target', p_policy.target,
    'table', case when p_policy.base is not null then p_policy.target end,
    'cutoff', p_at - p_policy.age, 'would', 0, 'capped', false,
    'cascaded', '{}'::jsonb, 'cascaded_total', 0, 'files', 0, 'oldest', null, 'limit', null, 'stop', null,
    'stop_reason', null, 'error', p_error, 'sample', '[]'::jsonb);
$$;
