-- Cleanup, what a caller's policies may do: run what is stored. Migrate stores policies; who calls a run may give an
-- age within its bounds and tighter limits, and nothing else: the rights to call a run are not those to say what goes.

-- What may run of each policy that a caller sends, in their order: [{"definition" (as read_definition reads it),
-- "refusal" (null, or why nothing of it may be touched)}]. What a caller leaves out is as stored.
--   p_simulates  a dry run's: an age that is marked as simulated may be any
create or replace function lull.bound_policies(p_policies jsonb, p_simulates boolean default false)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'definition', case when s.e is null then x.e - 'base' else s.e || lull.free_part(x.e) end,
    'refusal', case when s.e is null then
        'it is not stored; nothing of it was touched; store it: python -m infra migrate'
      else lull.refusal_of(
        lull.read_definition(s.e, 0), lull.read_definition(s.e || (x.e - 'base'), 0),
        case when not (p_simulates and coalesce(x.e -> 'age_is_simulated', 'false') = 'true') then
          make_interval(secs => coalesce(s.e ->> 'least_age_seconds', s.e ->> 'age_seconds')::double precision) end)
      end) order by x.n), '[]')
  from jsonb_array_elements(p_policies) with ordinality x (e, n)
  left join jsonb_array_elements(lull.effective_policies()) s (e) on s.e ->> 'name' = x.e ->> 'name';
$$;

-- The limits of a policy: a lower one takes less, none (null) is the highest.
create or replace function lull.policy_limits()
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select '{max_rows,growth_factor,growth_floor,max_percent,max_cascaded,max_below_root,max_below_bytes}'::text[];
$$;

-- What a run takes from its caller of a policy: the age and the limits that are given.
create or replace function lull.free_part(p_given jsonb)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(g.key, g.value), '{}')
  from jsonb_each(p_given) g where g.key = 'age_seconds' or g.key = any (lull.policy_limits());
$$;

-- Why a policy that was sent must not run in place of the stored one: a sentence with each field that is looser or
-- means something else. Null when none is. Of words (reason, warning) and order nothing depends.
--   p_least_age  no younger than that; null: any age
create or replace function lull.refusal_of(
  p_stored lull.policy_definition, p_given lull.policy_definition, p_least_age interval)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select 'it is not what is stored: ' || string_agg(d.difference, '; ' order by d.difference)
    || '; nothing of it was touched; store it with these settings: python -m infra migrate'
  from (
    select format('%s %s (stored: %s)', s.key, coalesce(g.value #>> '{}', 'none'), coalesce(s.value #>> '{}', 'none'))
    from jsonb_each(to_jsonb(p_stored)) s
    join jsonb_each(to_jsonb(p_given)) g on g.key = s.key
    where case
      when s.key in ('name', 'position', 'reason', 'warn_before', 'base', 'age') then false
      when s.key = any (lull.policy_limits()) then
        coalesce((g.value #>> '{}')::numeric, 'infinity') > coalesce((s.value #>> '{}')::numeric, 'infinity')
      else g.value is distinct from s.value end
    union all
    select format('age %s (no younger than %s)', coalesce(p_given.age::text, 'none'), p_least_age)
    where (p_given.age >= p_least_age) is not true and p_least_age is not null
  ) d (difference);
$$;

-- Store the ages of a run that were given within bounds of their own, for every rule that reads lull.policies. An age
-- without bounds stays as it was stored: a greater one holds for its run.
create or replace function lull.store_ages(p_bound jsonb)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.policies p
  set age = d.age
  from jsonb_array_elements(p_bound) b
  cross join lateral lull.read_definition(b -> 'definition', 0) d
  join lull.policy_rules r on r.policy = d.name
  where p.name = d.name and b ->> 'refusal' is null and r.least_age is not null and p.age <> d.age;
$$;

-- Store how young each policy may become by its variable. Only what differs is written.
create or replace function lull.store_age_bounds(p_policies jsonb)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.policy_rules r
  set least_age = b.least_age
  from (
    select e ->> 'name' as name, make_interval(secs => least(
      (e ->> 'least_age_seconds')::double precision, (e ->> 'age_seconds')::double precision)) as least_age
    from jsonb_array_elements(p_policies) e
    where e ->> 'least_age_seconds' is not null
    union all
    select e ->> 'name', null from jsonb_array_elements(p_policies) e where e ->> 'least_age_seconds' is null
  ) b
  where r.policy = b.name and r.least_age is distinct from b.least_age;
$$;
