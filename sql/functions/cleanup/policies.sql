-- Cleanup, policies: what may go. A policy is data; this file reads, checks and stores it, says which SQL condition it
-- means, and puts a team's own table on the allow-list. The run itself is in cleanup/run.sql.

-- Read a policy as Python sends it (see policies.py: ages in seconds, windows in days). The release before calls the
-- archive by its former name.
create or replace function lull.read_definition(p_policy jsonb, p_position integer)
returns lull.policy_definition
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select row(
    p_policy ->> 'name',
    p_position,
    case p_policy ->> 'target' when 'lull.archive' then 'lull.archive_pages' else p_policy ->> 'target' end,
    p_policy ->> 'clock',
    coalesce(nullif(p_policy -> 'equals', 'null'), '{}'),
    array(select jsonb_array_elements_text(coalesce(nullif(p_policy -> 'nulls', 'null'), '[]'))),
    make_interval(secs => (p_policy ->> 'age_seconds')::double precision),
    (p_policy ->> 'archive')::boolean,
    make_interval(days => (p_policy ->> 'restore_days')::integer),
    (p_policy ->> 'max_rows')::bigint,
    (p_policy ->> 'growth_factor')::numeric,
    (p_policy ->> 'growth_floor')::bigint,
    (p_policy ->> 'max_percent')::numeric,
    (p_policy ->> 'max_cascaded')::bigint,
    make_interval(secs => (p_policy ->> 'warn_seconds')::double precision),
    p_policy ->> 'reason',
    coalesce(nullif(p_policy -> 'below', 'null'), '{}'),
    array(select jsonb_array_elements_text(coalesce(nullif(p_policy -> 'also_clocks', 'null'), '[]'))),
    coalesce((p_policy ->> 'max_below_root')::bigint, 20000),
    coalesce((p_policy ->> 'max_below_bytes')::bigint, 64 * 1024 * 1024),
    p_policy ->> 'base'
  )::lull.policy_definition;
$$;

-- A policy in the form that read_definition reads.
create or replace function lull.definition_json(p_policy lull.policy_definition)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'name', p_policy.name, 'target', p_policy.target, 'clock', p_policy.clock, 'equals', p_policy.equals,
    'nulls', p_policy.nulls, 'age_seconds', extract(epoch from p_policy.age), 'archive', p_policy.archive,
    'restore_days', extract(day from p_policy.restore_window), 'max_rows', p_policy.max_rows,
    'growth_factor', p_policy.growth_factor, 'growth_floor', p_policy.growth_floor,
    'max_percent', p_policy.max_percent, 'max_cascaded', p_policy.max_cascaded,
    'warn_seconds', extract(epoch from p_policy.warn_before), 'reason', p_policy.reason, 'below', p_policy.below,
    'also_clocks', p_policy.also_clocks, 'max_below_root', p_policy.max_below_root,
    'max_below_bytes', p_policy.max_below_bytes, 'base', p_policy.base);
$$;

-- The condition on rows aliased t that a policy means, without its clocks. Constants are literals, so that partial
-- indexes serve. What the target protects never matches; a null clock is never older than anything.
create or replace function lull.definition_condition(p_policy lull.policy_definition)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return lull.all_of(
    (select string_agg(lull.value_condition(p_policy.target::regclass, e.key, e.value), ' and ' order by e.key)
      from jsonb_each(p_policy.equals) e),
    (select string_agg(format('t.%I is null', n), ' and ') from unnest(p_policy.nulls) n),
    (select lull.target_condition(g) from lull.targets g where g.name = p_policy.target));
end
$$;

-- The condition that a column of t has a value, or one of several (a JSON array, compared as text). Several values of
-- which each is written as its type writes it are compared as the type, so that an index serves.
create or replace function lull.value_condition(p_table regclass, p_column text, p_value jsonb)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_type text := lull.column_type(p_table, p_column);
  v_values text[] := case jsonb_typeof(p_value) when 'array' then array(select jsonb_array_elements_text(p_value)) end;
  v_is_exact boolean;
begin
  if v_values is null then
    return format('t.%I %s %L::%s', p_column, lull.equality(v_type::regtype), p_value #>> '{}', v_type);
  end if;
  begin
    execute format('select coalesce(bool_and(v::%s::text operator(pg_catalog.=) v), false) from unnest($1) v', v_type)
    into v_is_exact using v_values;
  exception when others then
    v_is_exact := false;
  end;
  if v_is_exact and cardinality(v_values) = 1 then
    return format('t.%I %s %L::%s', p_column, lull.equality(v_type::regtype), v_values[1], v_type);
  end if;
  return format('t.%I::text operator(pg_catalog.=) any (%L::text[])', p_column, v_values);
end
$$;

-- The condition that a row aliased t is stale: the policy's, its clocks before the cutoff (an expression), and nothing
-- below that keeps it. A clock of also_clocks that is null says nothing.
create or replace function lull.stale_condition(
  p_policy lull.policy_definition, p_cutoff text, p_clocks_below boolean default true)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return lull.all_of(
    lull.definition_condition(p_policy), format('t.%I < %s', p_policy.clock, p_cutoff),
    (select string_agg(format('(t.%I < %s) is not false', c, p_cutoff), ' and ') from unnest(p_policy.also_clocks) c),
    lull.kept_below(p_policy, p_cutoff, p_clocks_below));
end
$$;

-- The selection of stale rows, oldest first: everything after `from`. A row whose clock is the cutoff is not stale.
create or replace function lull.stale_selection(p_policy lull.policy_definition, p_cutoff timestamptz)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select format('%s where %s order by t.%I, %s', lull.from_table(g.name::regclass, 't'),
      lull.stale_condition(p_policy, format('%L::timestamptz', p_cutoff)), p_policy.clock,
      (select string_agg(format('t.%I', k.name), ', ' order by k.n)
        from unnest(g.key_columns) with ordinality k (name, n)))
    from lull.targets g
    where g.name = p_policy.target);
end
$$;

-- Whether an index serves a selection (stale_selection): asked of the planner itself, with sequential scans made
-- unattractive, and sorts too, so that an index on another column does not hide the one that serves.
create or replace function lull.has_selection_index(p_policy lull.policy_definition, p_selection text)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
  v_plan json;
begin
  execute 'explain (format json) select 1 from ' || p_selection into v_plan;
  -- The index's first column must be part of the condition: else every entry of the index is read.
  return exists (
    select 1
    from jsonb_path_query(v_plan::jsonb, '$.** ? (exists (@."Index Cond"))') n
    where position(format('%I <', p_policy.clock) in n ->> 'Index Cond') > 0 and exists (
      select 1
      from pg_catalog.pg_class c
      join pg_catalog.pg_index i on i.indexrelid = c.oid
      left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where c.relname = (n ->> 'Index Name')::name and i.indrelid in (
          select p_policy.target::regclass::oid
          union select relid from pg_catalog.pg_partition_tree(p_policy.target::regclass))
        and (a.attname is null or position(quote_ident(a.attname) in n ->> 'Index Cond') > 0)));
end
$$;

-- Store the effective policies, replacing those of before. Raises with the policy's name and the reason when one is
-- invalid, unless p_lenient, which leaves invalid ones out. Returns [{"policy", "error"}] of the invalid ones.
create or replace function lull.apply_policies(p_policies jsonb, p_lenient boolean default false)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_policy lull.policy_definition;
  v_row record;
  v_reason text;
  v_failed jsonb := '[]';
  v_good lull.policy_definition[] := '{}';
begin
  for v_row in select p, n from jsonb_array_elements(p_policies) with ordinality x (p, n) loop
    v_policy := lull.read_definition(v_row.p, v_row.n::integer);
    v_reason := lull.check_definition(v_policy);
    if v_reason is null then
      v_good := v_good || v_policy;
    elsif p_lenient then
      v_failed := v_failed || jsonb_build_object('policy', v_policy.name, 'error', v_reason);
    else
      perform lull.refuse(422, 'invalid-policy', format('Policy "%s" is invalid: %s.', v_policy.name, v_reason));
    end if;
  end loop;
  perform lull.store_policies(v_good);
  perform lull.store_age_bounds(p_policies);
  return v_failed;
end
$$;

-- Store policies in place of all that were stored. Only what differs is written.
create or replace function lull.store_policies(p_policies lull.policy_definition[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  delete from lull.policies p where not exists (select 1 from unnest(p_policies) g where g.name = p.name);
  insert into lull.policies_known (policy) select g.name from unnest(p_policies) g
  where not exists (select 1 from lull.policies_known k where k.policy = g.name);
  insert into lull.policies
  select x.* from unnest(p_policies) g
  cross join lateral (
    select g.name, g.position, g.target, g.clock, g.equals, g.nulls, g.age, g.archive, g.restore_window, g.max_rows,
      g.growth_factor, g.growth_floor, g.max_percent, g.max_cascaded, g.warn_before, g.reason
  ) x
  where not exists (select 1 from lull.policies p where to_jsonb(p) = to_jsonb(x))
  on conflict (name) do update set
    position = excluded.position, target = excluded.target, clock = excluded.clock, equals = excluded.equals,
    nulls = excluded.nulls, age = excluded.age, archive = excluded.archive,
    restore_window = excluded.restore_window, max_rows = excluded.max_rows, growth_factor = excluded.growth_factor,
    growth_floor = excluded.growth_floor, max_percent = excluded.max_percent,
    max_cascaded = excluded.max_cascaded, warn_before = excluded.warn_before, reason = excluded.reason;
  delete from lull.policy_rules r where not exists (select 1 from unnest(p_policies) g where g.name = r.policy);
  insert into lull.policy_rules (policy, below, also_clocks, max_below_root, max_below_bytes)
  select g.name, g.below, g.also_clocks, g.max_below_root, g.max_below_bytes from unnest(p_policies) g
  where not exists (
    select 1 from lull.policy_rules r
    where r.policy = g.name and r.below = g.below and r.also_clocks = g.also_clocks
      and r.max_below_root = g.max_below_root and r.max_below_bytes = g.max_below_bytes)
  on conflict (policy) do update set
    below = excluded.below, also_clocks = excluded.also_clocks, max_below_root = excluded.max_below_root,
    max_below_bytes = excluded.max_below_bytes;
end
$$;

-- The effective policies in the form that read_definition reads.
create or replace function lull.effective_policies()
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'name', name, 'target', target, 'clock', clock, 'equals', equals, 'nulls', nulls,
    'age_seconds', extract(epoch from age), 'archive', archive,
    'restore_days', extract(day from restore_window), 'max_rows', max_rows, 'growth_factor', growth_factor,
    'growth_floor', growth_floor, 'max_percent', max_percent, 'max_cascaded', max_cascaded,
    'warn_seconds', extract(epoch from warn_before), 'reason', reason, 'below', r.below,
    'also_clocks', r.also_clocks, 'max_below_root', r.max_below_root, 'max_below_bytes', r.max_below_bytes,
    'least_age_seconds', extract(epoch from r.least_age))
    order by position), '[]')
  from lull.policies p
  left join lull.policy_rules r on r.policy = p.name;
$$;
