-- Who may do what, applied last: nobody, then service_role by name. PostgREST's roles get no table and no schema of
-- Lull's; an operation is a public.lull_* function that runs with its owner's rights.

revoke all on schema lull from public, anon, authenticated, service_role;
revoke all on all tables in schema lull from public, anon, authenticated, service_role;
revoke all on all sequences in schema lull from public, anon, authenticated, service_role;
revoke all on all functions in schema lull from public, anon, authenticated, service_role;

insert into lull.objects (kind, identity)
select 'function', p.oid::regprocedure::text
from pg_catalog.pg_proc p
where p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%'
on conflict (identity) do nothing;

-- Every public object that Lull made and none that it did not. Revoking from PUBLIC matters: that is how `execute`
-- reaches anon on a new function.
do $$
declare
  v_object record;
begin
  for v_object in
    select o.kind, o.identity from lull.objects o
    where case o.kind when 'function' then to_regprocedure(o.identity) is not null
      else to_regclass(o.identity) is not null end
  loop
    execute format('revoke all on %s %s from public, anon, authenticated, service_role',
      case v_object.kind when 'view' then 'table' else v_object.kind end, v_object.identity);
    if v_object.kind = 'function' and v_object.identity not like '%update_participant_last_seen%' then
      execute format('grant execute on function %s to service_role', v_object.identity);
    end if;
  end loop;
end
$$;
