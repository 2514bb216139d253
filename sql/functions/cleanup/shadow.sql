-- Cleanup, shadow runs: what a run would have deleted, and which of it was used after that.

-- Store the rows that a shadow run would delete, oldest first, at most 10,000 a policy: those of users' sessions and of
-- tables of the team's. A row that an earlier shadow run noted, and that was not used since, would be gone by now: it
-- is not noted again.
create or replace function lull.note_shadow_rows(p_run lull.cleanup_runs, p_policy lull.policy_definition)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
begin
  if not exists (
    select 1 from lull.targets where name = p_policy.target and (name = 'lull.sessions' or not builtin)
  ) then
    return;
  end if;
  execute format(
    'insert into lull.shadow_rows (run_id, policy, target, key, clock)
     select $1, $2, $3, x.key, x.clock from (
       select %s as key, t.%I as clock from %s limit 10000) x
     where not exists (
       select 1 from lull.shadow_rows s where s.target = $3 and s.key = x.key and s.clock = x.clock)
     on conflict do nothing',
    (select lull.key_expression(key_columns) from lull.targets where name = p_policy.target), p_policy.clock,
    lull.stale_selection(p_policy, p_run.at - p_policy.age))
  using p_run.id, p_policy.name, p_policy.target;
end
$$;

-- Note which of the rows of shadow runs were used since: their clock moved. Looks at the rows of each policy that have
-- not returned. What cannot be asked (a table or column that is gone) stays as it is.
create or replace function lull.note_returns()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_line record;
begin
  for v_line in
    select s.target, s.policy, g.key_columns, l.definition ->> 'clock' as clock
    from (select distinct target, policy from lull.shadow_rows where returned_at is null) s
    join lull.targets g on g.name = s.target
    cross join lateral (
      select c.definition from lull.cleanup_run_policies c
      where c.policy = s.policy and c.outcome = 'shadow' order by c.opened_at desc limit 1) l
  loop
    begin
      execute format(
        'update lull.shadow_rows s set returned_at = t.%1$I from %2$s
         where s.target = $1 and s.policy = $2 and s.returned_at is null and %3$s and t.%1$I > s.clock',
        v_line.clock, lull.from_table(v_line.target::regclass, 't'), (
          select string_agg(format('t.%I %s (%s)::%s', k.name, lull.equality(c.type::regtype),
            case cardinality(v_line.key_columns) when 1 then 's.key' else format('s.key::jsonb ->> %s', k.n - 1) end,
            c.type), ' and ')
          from unnest(v_line.key_columns) with ordinality k (name, n)
          join lull.table_columns(v_line.target::regclass) c on c.name = k.name))
      using v_line.target, v_line.policy;
    exception when others then
      raise warning 'whether rows of % were used since shadow runs is unknown: %', v_line.target, sqlerrm;
    end;
  end loop;
end
$$;
