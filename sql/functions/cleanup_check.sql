-- Cleanup, the check of policies: what the doctor asks. It changes nothing.

-- What check_policy says of a policy that no index serves.
create or replace function lull.no_index(p_policy lull.policies)
returns text
language sql
stable
set search_path = ''
as $$
  select format('no index of %s serves its selection; create one on (%s, %s) for the rows it takes',
    g.name, p_policy.clock, array_to_string(g.key_columns, ', '))
  from lull.targets g
  where g.name = p_policy.target;
$$;

-- The index that would serve a policy: small, because it has only the rows that the policy may ever take.
create or replace function lull.index_statement(p_policy lull.policies)
returns text
language sql
stable
set search_path = ''
as $$
  select format('create index on %s (%s)%s', g.name::regclass,
    (select string_agg(format('%I', c.name), ', ' order by c.n)
      from unnest(p_policy.clock || g.key_columns) with ordinality c (name, n)),
    ' where ' || (
      select string_agg(c.condition, ' and ')
      from (
        select format('%I = %L', e.key, e.value) from jsonb_each_text(p_policy.equals) e
        union all
        select format('%I is null', n) from unnest(p_policy.nulls) n
        union all
        select format('not %I', g.hold_column) where g.hold_column is not null
      ) c (condition)))
  from lull.targets g
  where g.name = p_policy.target;
$$;

-- Compare policies, as the caller's settings give them, with those that are stored, and check each against the
-- database; changes nothing. Their order is no difference. Returns {"policies": [{"policy", "stored", "differences": [{"field", "stored", "given"}],
-- "error", "index" (the statement that makes a missing one)}], "others": names that are stored and were not given}.
create or replace function public.lull_check_policies(p_policies jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '5s'
as $$
declare
  v_row record;
  v_policy lull.policies;
  v_stored lull.policies;
  v_error text;
  v_answers jsonb := '[]';
begin
  for v_row in select p, n from jsonb_array_elements(p_policies) with ordinality x (p, n) order by n loop
    v_policy := lull.read_policy(v_row.p, v_row.n::integer);
    select * into v_stored from lull.policies where name = v_policy.name;
    v_error := lull.check_policy(v_policy);
    v_answers := v_answers || jsonb_build_object(
      'policy', v_policy.name,
      'stored', v_stored.name is not null,
      'differences', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'field', s.key, 'stored', s.value #>> '{}', 'given', g.value #>> '{}')
          order by s.key), '[]')
        from jsonb_each(to_jsonb(v_stored)) s
        join jsonb_each(to_jsonb(v_policy)) g on g.key = s.key
        where v_stored.name is not null and s.key <> 'position' and g.value is distinct from s.value),
      'error', v_error,
      'index', case when v_error = lull.no_index(v_policy) then lull.index_statement(v_policy) end);
  end loop;
  return jsonb_build_object('policies', v_answers, 'others', (
    select coalesce(jsonb_agg(p.name order by p.position), '[]') from lull.policies p
    where not p_policies @> jsonb_build_array(jsonb_build_object('name', p.name))));
end
$$;
