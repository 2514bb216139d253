-- Cleanup, policies: what may go. A policy is data; this file reads, checks and stores it, says which SQL condition it
-- means, and puts a team's own table on the allow-list. The run itself is in cleanup.sql.

-- Read a policy as Python sends it (see policies.py: ages in seconds, windows in days).
create or replace function lull.read_policy(p_policy jsonb, p_position integer)
returns lull.policies
language sql
immutable
set search_path = ''
as $$
  select row(
    p_policy ->> 'name',
    p_position,
    p_policy ->> 'target',
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
    p_policy ->> 'reason'
  )::lull.policies;
$$;

-- The condition on rows aliased t that a policy means, without its clock. Constants are literals, so that partial
-- indexes serve. A held row never matches, nor one that its target keeps; a null clock is never older than anything.
create or replace function lull.policy_condition(p_policy lull.policies)
returns text
language sql
stable
set search_path = ''
as $$
  select string_agg(c.condition, ' and ')
  from (
    select format('t.%I = %L::%s', e.key, e.value, s.type) as condition
    from jsonb_each_text(p_policy.equals) e
    join lull.table_columns(p_policy.target::regclass) s on s.name = e.key
    union all
    select format('t.%I is null', n) from unnest(p_policy.nulls) n
    union all
    select format('not t.%I', g.hold_column) from lull.targets g
    where g.name = p_policy.target and g.hold_column is not null
    union all
    select format('not (%s)', g.unless) from lull.targets g
    where g.name = p_policy.target and g.unless is not null
    union all
    select 'true'
  ) c;
$$;

-- The selection of stale rows: everything after `from`. A batch resumes behind the last row locked.
--   p_cutoff   rows whose clock is before it are stale; equal is not
--   p_clock, p_key   the cursor, or null to start with the oldest
create or replace function lull.stale_rows(
  p_policy lull.policies, p_cutoff timestamptz, p_clock timestamptz default null, p_key text[] default null)
returns text
language sql
stable
set search_path = ''
as $$
  select format('%s t where %s and t.%I < %L::timestamptz%s order by %s',
    g.name::regclass, lull.policy_condition(p_policy), p_policy.clock, p_cutoff,
    case when p_clock is null then '' else
      format(' and (%s) > (%s)', k.columns, format('%L::timestamptz, ', p_clock) || k.cursor) end,
    k.columns)
  from lull.targets g
  cross join lateral (
    select format('t.%I, ', p_policy.clock) || string_agg(format('t.%I', c.name), ', ' order by c.n) as columns,
      string_agg(format('%L::%s', p_key[c.n], s.type), ', ' order by c.n) as cursor
    from unnest(g.key_columns) with ordinality c (name, n)
    join lull.table_columns(g.name::regclass) s on s.name = c.name
  ) k
  where g.name = p_policy.target;
$$;

-- Whether an index serves the selection: asked of the planner itself, with sequential scans made unattractive, and
-- sorts too, so that an index on another column does not hide the one that serves.
create or replace function lull.has_serving_index(p_policy lull.policies)
returns boolean
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
as $$
declare
  v_plan json;
begin
  execute 'explain (format json) select 1 from ' || lull.stale_rows(p_policy, now()) into v_plan;
  return exists (
    select 1
    from jsonb_path_query(v_plan::jsonb, '$.**."Index Cond"') c
    where position(format('%I <', p_policy.clock) in c #>> '{}') > 0);
end
$$;

-- Check one policy against the database. Returns null when it can run, else the reason as a sentence.
create or replace function lull.check_policy(p_policy lull.policies)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_target lull.targets;
  v_table regclass;
  v_type text;
  v_missing text;
begin
  if p_policy.target is null or p_policy.clock is null then
    return format('its %s is missing', case when p_policy.target is null then 'target' else 'clock' end);
  end if;
  select * into v_target from lull.targets where name = p_policy.target;
  if not found then
    return format('its target %s is not adopted; run: select lull.adopt(%L, ...)', p_policy.target, p_policy.target);
  end if;
  v_table := to_regclass(p_policy.target);
  if v_table is null then
    return format('its target %s does not exist', p_policy.target);
  elsif p_policy.age is null or p_policy.age < interval '0' then
    return 'its age is negative or missing';
  end if;
  select type into v_type from lull.table_columns(v_table) where name = p_policy.clock;
  if v_type is null then
    return format('its clock column %I does not exist in %s', p_policy.clock, p_policy.target);
  elsif v_type not like 'timestamp%with time zone' then
    return format('its clock %I is %s; it must be timestamptz', p_policy.clock, v_type);
  end if;
  select string_agg(c.name, ', ' order by c.name collate "C") into v_missing
  from (select jsonb_object_keys(p_policy.equals) union select unnest(p_policy.nulls)) c (name)
  where not exists (select 1 from lull.table_columns(v_table) s where s.name = c.name);
  if v_missing is not null then
    return format('unknown column %s in %s', v_missing, p_policy.target);
  end if;
  select string_agg(format('its %s column %s does not exist in %s', c.role, c.name, p_policy.target), ', ')
  into v_missing
  from (
    select 'key', unnest(v_target.key_columns)
    union all
    select 'hold', v_target.hold_column where v_target.hold_column is not null
  ) c (role, name)
  where not exists (select 1 from lull.table_columns(v_table) s where s.name = c.name);
  if v_missing is not null then
    return v_missing;
  end if;
  select string_agg(format('%s.%s', f.conrelid::regclass, f.conname), ', ') into v_missing
  from pg_catalog.pg_constraint f
  where f.contype = 'f' and f.confdeltype in ('n', 'd') and f.conparentid = 0
    and (f.confrelid = v_table or f.confrelid in (select child from lull.cascade_edges(v_table)));
  if v_missing is not null then
    return format('the foreign key %s would change rows that a restore could not mend; make it on delete cascade',
      v_missing);
  end if;
  v_missing := lull.cascade_objection(v_table, p_policy.archive);
  if v_missing is not null then
    return v_missing;
  end if;
  begin
    perform lull.check_values(p_policy);
  exception when others then
    return format('a value in its equals does not fit the column: %s', sqlerrm);
  end;
  begin
    if not lull.has_serving_index(p_policy) then
      return lull.no_index(p_policy);
    end if;
  exception when others then
    return format('its selection is not possible: %s', sqlerrm);
  end;
  return null;
end
$$;

-- Why rows of a table must not be taken with what their foreign keys take along; null when they may.
create or replace function lull.cascade_objection(p_table regclass, p_archive boolean default true)
returns text
language sql
stable
set search_path = ''
as $$
  select case
    when p_archive and p_table = 'lull.archive'::regclass then
      'what is archived cannot be archived once more; it needs archive = false'
    when exists (select 1 from lull.cascade_edges(p_table) e where e.child = p_table) then
      'its rows can go along with other rows of it (a foreign key leads back to it), held and fresh ones too'
    when p_table <> 'lull.sessions'::regclass and exists (
      select 1 from lull.session_tables s
      where to_regclass(s.name) = p_table
        or to_regclass(s.name) in (select e.child from lull.cascade_edges(p_table) e)
    ) then
      'it would take adopted sessions without their lull.sessions rows; the policies on lull.sessions take both'
  end;
$$;

-- Compare each value of a policy with itself, as its column's type. Raises when one does not fit or has no equality.
create or replace function lull.check_values(p_policy lull.policies)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_value text;
begin
  for v_value in
    select format('%L::%s', e.value, s.type)
    from jsonb_each_text(p_policy.equals) e
    join lull.table_columns(p_policy.target::regclass) s on s.name = e.key
  loop
    execute format('select %s = %s', v_value, v_value);
  end loop;
end
$$;

-- Store the effective policies, replacing those of before. Raises with the policy's name and the reason when one is
-- invalid, unless p_lenient, which leaves invalid ones out. Returns [{"policy", "error"}] of the invalid ones.
create or replace function lull.apply_policies(p_policies jsonb, p_lenient boolean default false)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_policy lull.policies;
  v_row record;
  v_reason text;
  v_failed jsonb := '[]';
  v_good lull.policies[] := '{}';
begin
  for v_row in select p, n from jsonb_array_elements(p_policies) with ordinality x (p, n) loop
    v_policy := lull.read_policy(v_row.p, v_row.n::integer);
    v_reason := lull.check_policy(v_policy);
    if v_reason is null then
      v_good := v_good || v_policy;
    elsif p_lenient then
      v_failed := v_failed || jsonb_build_object('policy', v_policy.name, 'error', v_reason);
    else
      perform lull.refuse(422, 'invalid-policy', format('Policy "%s" is invalid: %s.', v_policy.name, v_reason));
    end if;
  end loop;
  delete from lull.policies p where not exists (select 1 from unnest(v_good) g where g.name = p.name);
  -- Only what differs is written: this runs at every begin.
  insert into lull.policies
  select g.* from unnest(v_good) g
  where not exists (select 1 from lull.policies p where p is not distinct from g)
  on conflict (name) do update set
    position = excluded.position, target = excluded.target, clock = excluded.clock, equals = excluded.equals,
    nulls = excluded.nulls, age = excluded.age, archive = excluded.archive,
    restore_window = excluded.restore_window, max_rows = excluded.max_rows, growth_factor = excluded.growth_factor,
    growth_floor = excluded.growth_floor, max_percent = excluded.max_percent,
    max_cascaded = excluded.max_cascaded, warn_before = excluded.warn_before, reason = excluded.reason;
  return v_failed;
end
$$;

-- The effective policies in the form that read_policy reads.
create or replace function lull.effective_policies()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'name', name, 'target', target, 'clock', clock, 'equals', equals, 'nulls', nulls,
    'age_seconds', extract(epoch from age), 'archive', archive,
    'restore_days', extract(day from restore_window), 'max_rows', max_rows, 'growth_factor', growth_factor,
    'growth_floor', growth_floor, 'max_percent', max_percent, 'max_cascaded', max_cascaded,
    'warn_seconds', extract(epoch from warn_before), 'reason', reason) order by position), '[]')
  from lull.policies;
$$;

-- Put a team's table on the allow-list, after checking that the cleanup can delete from it, archive it and restore it.
--   p_clock  its timestamptz column that activity moves      p_key   a unique column (default: the primary key)
--   p_hold   a boolean column that protects a row, if any
-- Raises with every reason at once; adopting a table again updates its entry. Returns a sentence. Checked with the
-- rights of Lull's owner, whoever calls: the cleanup will have no others.
create or replace function lull.adopt(
  p_table regclass, p_clock text, p_key text default null, p_hold text default null)
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_key text[] := lull.unique_key(p_table, p_key);
  v_reasons text[] := lull.adoption_reasons(p_table, p_clock, p_hold);
begin
  if v_key is null then
    v_reasons := format('%s is no unique, not-null key of it', coalesce(p_key, 'the primary key')) || v_reasons;
  end if;
  if v_reasons <> '{}' then
    perform lull.refuse(422, 'not-adoptable',
      format('%s cannot be adopted: %s.', p_table, array_to_string(v_reasons, '; ')));
  end if;
  insert into lull.targets (name, key_columns, hold_column)
  values (p_table::text, v_key, p_hold)
  on conflict (name) do update set key_columns = excluded.key_columns, hold_column = excluded.hold_column;
  return format('%s is adopted: a policy may act on it now. Nothing was changed in it.', p_table);
end
$$;

-- Every reason why a table cannot be adopted, empty when it can.
create or replace function lull.adoption_reasons(p_table regclass, p_clock text, p_hold text)
returns text[]
language sql
set search_path = ''
as $$
  select array(
    select format('its clock %s is not a timestamptz column', coalesce(p_clock, '(none given)'))
    where not exists (
      select 1 from lull.table_columns(p_table)
      where name = p_clock and type like 'timestamp%with time zone')
    union all
    select format('its hold column %s is not a not-null boolean', p_hold)
    where p_hold is not null and not exists (
      select 1 from pg_catalog.pg_attribute
      where attrelid = p_table and attname = p_hold and atttypid = 'boolean'::regtype and attnotnull)
    union all
    select format('no index begins its order with the clock %s (or with the columns of a policy and then %s)',
      p_clock, p_clock)
    where not exists (
      select 1
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])
      where i.indrelid = p_table and i.indisvalid and a.attname = p_clock)
    union all
    select lull.cascade_objection(p_table) where lull.cascade_objection(p_table) is not null
  ) || lull.restorable_reasons(p_table);
$$;
