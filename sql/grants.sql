-- Grants, applied last: revoke everything, then grant the operations to the API's roles by name. These roles get no
-- table and no schema of Lull's. An operation is a public.lull_* function, which runs with its owner's rights.
--
-- service_role is the role of PostgREST's calls with the project's secret key. lull_api is an optional login of your
-- own for DATABASE_URL: it may call the operations and nothing else. A Postgres without Supabase may lack all of these
-- roles.

-- List every operation in lull.objects.
insert into lull.objects (kind, identity)
select 'function', p.oid::regprocedure::text
from pg_catalog.pg_proc p
where p.pronamespace = 'public'::regnamespace and p.proname like 'lull\_%'
on conflict (identity) do nothing;

select lull.keep_state();

-- Revoking from PUBLIC is necessary: through it anon may execute a new function.
do $$
declare
  v_servers constant text[] := array(
    select quote_ident(r.rolname) from pg_catalog.pg_roles r where r.rolname in ('service_role', 'lull_api'));
  v_revoked constant text := array_to_string('public'::text || v_servers || array(
    select quote_ident(r.rolname) from pg_catalog.pg_roles r where r.rolname in ('anon', 'authenticated')), ', ');
  v_object record;
begin
  execute format('revoke all on schema lull from %s', v_revoked);
  execute format('revoke all on all tables in schema lull from %s', v_revoked);
  execute format('revoke all on all sequences in schema lull from %s', v_revoked);
  execute format('revoke all on all functions in schema lull from %s', v_revoked);
  for v_object in
    select o.kind, o.identity from lull.objects o
    where case o.kind when 'function' then to_regprocedure(o.identity) is not null
      else to_regclass(o.identity) is not null end
  loop
    execute format('revoke all on %s %s from %s',
      case v_object.kind when 'view' then 'table' else v_object.kind end, v_object.identity, v_revoked);
    if v_object.kind = 'function' and v_object.identity not like '%update_participant_last_seen%'
      and v_servers <> '{}'
    then
      execute format('grant execute on function %s to %s', v_object.identity, array_to_string(v_servers, ', '));
    end if;
  end loop;
end
$$;
