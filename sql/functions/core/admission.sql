-- Admission: which roles may call an operation (a public.lull_* function), whatever was granted.
--
-- Grants come back wrong from a dump: pg_dump does not revoke what default privileges add. So every operation asks by
-- itself, before it reads anything.

-- Admit service_role, lull_api, and roles that have the rights of Lull's owner; raise 42501 for any other role. The
-- role is that of `set role` (PostgREST), else the login. Called in a function that runs as its owner: current_user is
-- Lull's owner here, and says nothing about the caller. Reads no table, locks nothing; returns the role.
create or replace function lull.require_server()
returns name
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_role name := coalesce(nullif(current_setting('role'), 'none'), session_user);
begin
  if v_role in ('service_role', 'lull_api') or v_role = current_user or pg_has_role(v_role, current_user, 'usage') then
    return v_role;
  end if;
  raise insufficient_privilege using
    message = format('The role %s may not call the functions of Lull.', v_role),
    hint = 'Only service_role, lull_api and the owner of Lull may.';
end
$$;
