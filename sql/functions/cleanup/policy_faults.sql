-- Cleanup, policies: whether a policy can be acted on, and what is wrong with it.

-- Check one policy against the database. Returns null when it can run, else the reason as a sentence.
create or replace function lull.check_definition(p_policy lull.policy_definition)
returns text
language sql
set search_path = pg_catalog, pg_temp
as $$
  select o_reason from lull.check_selection(p_policy, now());
$$;

-- The same, with the selection of what is stale at p_at, which the check asks the planner about: its text is made once
-- for the check and for what is counted or taken. o_selection is null where there is a reason.
create or replace function lull.check_selection(
  p_policy lull.policy_definition, p_at timestamptz, out o_reason text, out o_selection text)
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
begin
  o_reason := lull.definition_fault(p_policy);
  if o_reason is not null then
    return;
  end if;
  begin
    o_selection := lull.stale_selection(p_policy, p_at - p_policy.age);
    if not lull.has_selection_index(p_policy, o_selection) then
      o_reason := lull.missing_index(p_policy);
    end if;
  exception when others then
    o_reason := format('its selection is not possible: %s', sqlerrm);
  end;
  if o_reason is not null then
    o_selection := null;
  end if;
end
$$;

-- What is wrong with a policy besides its selection; null when nothing is.
create or replace function lull.definition_fault(p_policy lull.policy_definition)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
  v_table regclass;
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
    return coalesce(nullif(array_to_string(lull.target_reasons(v_target), '; '), ''),
      format('its target %s does not exist', p_policy.target));
  elsif p_policy.age is null or p_policy.age < interval '0' then
    return 'its age is negative or missing';
  end if;
  v_missing := lull.column_objection(p_policy, v_target);
  if v_missing is not null then
    return v_missing;
  end if;
  select string_agg(r, '; ') into v_missing
  from (
    select unnest(lull.target_reasons(v_target))
    union all
    select unnest(lull.below_reasons(p_policy))
  ) x (r);
  if v_missing is not null then
    return v_missing;
  end if;
  v_missing := lull.cascade_fault(p_policy);
  if v_missing is not null then
    return v_missing;
  end if;
  begin
    perform lull.check_definition_values(p_policy);
  exception when others then
    return format('a value in its equals does not fit the column: %s', sqlerrm);
  end;
  return null;
end
$$;

-- Why the columns that a policy names do not fit its target; null when they do.
create or replace function lull.column_objection(p_policy lull.policy_definition, p_target lull.targets)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass := to_regclass(p_policy.target);
  v_type text;
  v_missing text;
begin
  v_type := lull.column_type(v_table, p_policy.clock);
  if v_type is null then
    return format('its clock column %I does not exist in %s', p_policy.clock, p_policy.target);
  elsif v_type not like 'timestamp%with time zone' then
    return format('its clock %I is %s; it must be timestamptz', p_policy.clock, v_type);
  end if;
  select string_agg(c.name, ', ' order by c.name collate "C") into v_missing
  from (select jsonb_object_keys(p_policy.equals) union select unnest(p_policy.nulls)) c (name)
  where lull.column_type(v_table, c.name) is null;
  if v_missing is not null then
    return format('unknown column %s in %s', v_missing, p_policy.target);
  end if;
  select string_agg(format('its %s column %s does not exist in %s', c.role, c.name, p_policy.target), ', ')
  into v_missing
  from (
    select 'key', unnest(p_target.key_columns)
    union all
    select 'hold', p_target.hold_column where p_target.hold_column is not null
  ) c (role, name)
  where lull.column_type(v_table, c.name) is null;
  if v_missing is not null then
    return v_missing;
  end if;
  return null;
end
$$;

-- Why rows of a policy's target must not be taken with what goes along; null when they may.
create or replace function lull.cascade_fault(p_policy lull.policy_definition)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case
    when p_policy.archive and p_policy.target = 'lull.archive_pages' then
      'what is archived cannot be archived once more; it needs archive = false'
    when not lull.keeps_unnamed(p_policy.target) and exists (
      select 1 from pg_catalog.pg_constraint f
      where f.conrelid = p_policy.target::regclass and f.contype = 'f' and f.confdeltype = 'c'
    ) and exists (
      select 1 from lull.cascade_tables(p_policy.target::regclass) e where e.child = p_policy.target::regclass
    ) then
      'its rows can go along with other rows of it (a foreign key leads back to it), held and fresh ones too'
  end;
end
$$;

-- What is wrong with the rules of a policy about tables below its target.
create or replace function lull.below_reasons(p_policy lull.policy_definition)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select case
      when to_regclass(b.key) is null then format('the table %s in its below does not exist', b.key)
      when not exists (
        select 1 from lull.cascade_graph(p_policy.target::regclass) g
        where to_regclass(b.key)::oid = any (lull.partition_family(g.child))) then
        format('the table %s in its below does not refer to it', b.key)
      when b.value in ('"keeps"', '"goes along"') then null
      when jsonb_typeof(b.value) <> 'object' or b.value - 'clock' <> '{}' or b.value ->> 'clock' is null then
        format('its rule for %s must be "keeps", "goes along" or {"clock": column}', b.key)
      when (lull.column_type(to_regclass(b.key), b.value ->> 'clock') like 'timestamp%with time zone') is not true then
        format('%s has no timestamptz column %s', b.key, b.value ->> 'clock') end
    from jsonb_each(p_policy.below) b
    union all
    select format('its clock %s does not exist', c)
    from unnest(p_policy.also_clocks) c
    where (lull.column_type(p_policy.target::regclass, c) like 'timestamp%with time zone') is not true
    except
    select null);
end
$$;

-- Compare each value of a policy with itself, as its column's type. Raises when one does not fit or has no equality.
create or replace function lull.check_definition_values(p_policy lull.policy_definition)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_value text;
begin
  for v_value in
    select format('select x.v %1$s x.v from (select %2$L::%3$s) x (v)',
      lull.equality(s.type::regtype), e.value #>> '{}', s.type)
    from jsonb_each(p_policy.equals) e
    cross join lull.column_type(p_policy.target::regclass, e.key) s (type)
    where jsonb_typeof(e.value) <> 'array' and s.type is not null
  loop
    execute v_value;
  end loop;
end
$$;
