-- Cleanup, the check of policies: what the doctor asks. It changes nothing.

-- What check_policy says of a policy that no index serves.
create or replace function lull.missing_index(p_policy lull.policy_definition)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('no index of %s serves its selection; create one on (%s, %s) for the rows it takes',
    g.name, p_policy.clock, array_to_string(g.key_columns, ', '))
  from lull.targets g
  where g.name = p_policy.target;
$$;

-- The index that would serve a policy: small, because it has only the rows that the policy may ever take.
create or replace function lull.selection_index_statement(p_policy lull.policy_definition)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('create index on %s (%s)%s', g.name::regclass,
    (select string_agg(format('%I', c.name), ', ' order by c.n)
      from unnest(p_policy.clock || g.key_columns) with ordinality c (name, n)),
    ' where ' || (
      select string_agg(c.condition, ' and ')
      from (
        select case jsonb_typeof(e.value)
          when 'array' then (select format('%I in (%s)', e.key, string_agg(quote_literal(v), ', '))
            from jsonb_array_elements_text(e.value) v)
          else format('%I = %L', e.key, e.value #>> '{}') end
        from jsonb_each(p_policy.equals) e
        union all
        select format('%I is null', n) from unnest(p_policy.nulls) n
        union all
        select format('not %I', g.hold_column) where g.hold_column is not null
      ) c (condition)))
  from lull.targets g
  where g.name = p_policy.target;
$$;

-- Compare policies, as the caller's settings give them, with those that are stored, and check each against the
-- database; changes nothing. Their order is no difference. Returns {"policies": [{"policy", "stored", "differences":
-- [{"field", "stored", "given"}], "error", "index" (the statement that makes a missing one)}], "others": names that are
-- stored and were not given}.
create or replace function public.lull_check_policies(p_policies jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '5s'
as $$
declare
  v_server constant name := lull.require_server();
  v_row record;
  v_policy lull.policy_definition;
  v_stored jsonb;
  v_error text;
  v_answers jsonb := '[]';
begin
  for v_row in select p, n from jsonb_array_elements(p_policies) with ordinality x (p, n) order by n loop
    v_policy := lull.read_definition(v_row.p, v_row.n::integer);
    select to_jsonb(p) || coalesce(to_jsonb(r) - 'policy', '{}') into v_stored
    from lull.policies p
    left join lull.policy_rules r on r.policy = p.name
    where p.name = v_policy.name;
    v_error := lull.check_definition(v_policy);
    v_answers := v_answers || jsonb_build_object(
      'policy', v_policy.name,
      'stored', v_stored is not null,
      'differences', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'field', s.key, 'stored', s.value #>> '{}', 'given', g.value #>> '{}')
          order by s.key), '[]')
        from jsonb_each(v_stored) s
        join jsonb_each(to_jsonb(v_policy)) g on g.key = s.key
        where s.key <> 'position' and g.value is distinct from s.value),
      'error', v_error,
      'index', case when v_error = lull.missing_index(v_policy) then lull.selection_index_statement(v_policy) end);
  end loop;
  return jsonb_build_object('policies', v_answers, 'others', (
    select coalesce(jsonb_agg(p.name order by p.position), '[]') from lull.policies p
    where not p_policies @> jsonb_build_array(jsonb_build_object('name', p.name))));
end
$$;
