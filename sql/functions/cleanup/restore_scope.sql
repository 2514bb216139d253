-- Cleanup, the scope of a restore: a run, rows of a target, or everything of an owner, as batches of the archive.

-- A scope with its owner as an id (404 for an email of no user), and the ids of a target (422 for an unknown one) as
-- they are stored.
create or replace function lull.resolved_scope(p_scope jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_scope ? 'owner' then
    return p_scope || jsonb_build_object('owner', lull.owner_by_name(p_scope ->> 'owner'));
  elsif p_scope ? 'target' then
    perform lull.check_target(p_scope ->> 'target');
    return p_scope || jsonb_build_object('ids', (
      select coalesce(jsonb_agg(lull.key_as_stored(p_scope ->> 'target', i)), '[]')
      from jsonb_array_elements_text(p_scope -> 'ids') i));
  end if;
  return p_scope;
end
$$;

-- Whether a text is a UUID in the form 8-4-4-4-12.
create or replace function lull.is_uuid(p_text text)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select p_text ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$';
$$;

-- The id of a user by id or email; 404 for an email that auth.users does not have. Both questions use an index of
-- Supabase's own.
create or replace function lull.owner_by_name(p_name text)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  if lull.is_uuid(p_name) then
    return p_name::uuid;
  elsif to_regclass('auth.users') is not null and has_table_privilege('auth.users', 'select') then
    execute 'select id from auth.users where email = lower($1)' || case when exists (
        select 1 from lull.table_columns('auth.users'::regclass) where name = 'is_sso_user')
      then ' and is_sso_user = false' else '' end
    into v_id using p_name;
  end if;
  if v_id is null then
    perform lull.refuse(404, 'not-found', 'auth.users has no user with this email; name the owner by id.');
  end if;
  return v_id;
end
$$;

-- Move what the older archive has of a scope into pages, 2,000 rows a call.
create or replace function lull.move_older_scope(p_scope jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select 1 from lull.archive) then
    return;
  end if;
  perform lull.move_older_rows(array(
    select a.id from lull.archive a
    where case
      when p_scope ? 'run' then a.run_id = (p_scope ->> 'run')::uuid
        and (not p_scope ? 'policy' or split_part(a.policy, ':', 1) = p_scope ->> 'policy')
        and (not p_scope ? 'ids' or p_scope -> 'ids' ? a.key)
      when p_scope ? 'owner' then a."row" ->> 'owner_id' = p_scope ->> 'owner'
      else a.target = p_scope ->> 'target' and p_scope -> 'ids' ? a.key end
    order by a.id limit 2000 for update));
end
$$;

-- The archived keys of a scope. Policies are named with their lines: `abandoned-drafts` means its line
-- `abandoned-drafts:public.chats`, too.
create or replace function lull.keys_of_scope(p_scope jsonb)
returns table (page bigint, batch bigint, kind text, target text, key text, reason text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run uuid := (p_scope ->> 'run')::uuid;
  v_policy text := p_scope ->> 'policy';
  v_ids text[] := array(select jsonb_array_elements_text(p_scope -> 'ids'));
  v_targets text[] := array(select g.name from lull.targets g where coalesce(g.name = p_scope ->> 'target', true));
begin
  if p_scope ? 'ids' then
    return query
      select p.id, p.batch, p.kind, k.target, k.key, k.reason
      from lull.archive_keys k join lull.archive_pages p on p.id = k.page
      where k.target = any (v_targets) and k.key = any (v_ids) and (v_run is null or p.run_id = v_run)
        and (v_policy is null or v_policy in (p.policy, split_part(p.policy, ':', 1)));
  elsif v_run is null then
    return query
      select p.id, p.batch, p.kind, k.target, k.key, k.reason
      from lull.archive_keys k join lull.archive_pages p on p.id = k.page
      where k.owner = (p_scope ->> 'owner')::uuid;
  else
    return query
      select p.id, p.batch, p.kind, k.target, k.key, k.reason
      from lull.archive_pages p join lull.archive_keys k on k.page = p.id and k.target = p.target
      where p.run_id = v_run and (v_policy is null or v_policy in (p.policy, split_part(p.policy, ':', 1)));
  end if;
end
$$;

-- The batches of a scope in their order, at most 50, with the keys that are wanted (null: all of the batch). p_again:
-- only remainders.
create or replace function lull.batches_of_scope(p_scope jsonb, p_after bigint, p_upto bigint, p_again boolean)
returns table (batch bigint, target text, keys text[])
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_scope ? 'run' and not p_scope ? 'ids' then
    return query
      select p.batch, p.target, null::text[] from lull.archive_pages p
      where p.run_id = (p_scope ->> 'run')::uuid and p.id > p_after and p.batch > p_after and p.batch <= p_upto
        and (not p_scope ? 'policy' or p_scope ->> 'policy' in (p.policy, split_part(p.policy, ':', 1)))
        and (not p_again or p.kind = 'remainder')
      group by p.batch, p.target order by p.batch limit 50;
  else
    return query
      select k.batch, k.target, array_agg(distinct k.key)
      from lull.keys_of_scope(p_scope) k
      where k.batch > p_after and k.batch <= p_upto and (not p_again or k.kind = 'remainder')
      group by k.batch, k.target order by k.batch limit 50;
  end if;
end
$$;

-- Refuse a scope of which the archive holds nothing: 404 where it never did, 410 where it was purged. What is back
-- already is neither: such a restore has nothing to do.
create or replace function lull.check_scope(p_scope jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run uuid := (p_scope ->> 'run')::uuid;
  v_owner uuid := (p_scope ->> 'owner')::uuid;
begin
  if exists (select 1 from lull.batches_of_scope(p_scope, 0, 9223372036854775807, false)) then
    return;
  elsif v_run is not null then
    perform lull.check_run_scope(v_run, p_scope);
  elsif v_owner is not null and not exists (select 1 from lull.sessions where owner_id = v_owner) then
    if exists (select 1 from lull.tombstones where owner_id = v_owner)
      or exists (select 1 from lull.key_tombstones where owner = v_owner) then
      perform lull.refuse(410, 'archive-purged',
        'What the archive held of this owner was purged: it is gone for good.');
    end if;
    perform lull.refuse(404, 'not-found', format('The archive holds nothing of the owner %s.', v_owner));
  elsif p_scope ? 'target' then
    if exists (select 1 from jsonb_array_elements_text(p_scope -> 'ids') i
      where lull.missing_reason(p_scope ->> 'target', i) is null) then
      return;
    elsif exists (select 1 from jsonb_array_elements_text(p_scope -> 'ids') i
      where lull.missing_reason(p_scope ->> 'target', i) like 'purged%') then
      perform lull.refuse(410, 'archive-purged', 'These rows were purged: they are gone for good.');
    end if;
    perform lull.refuse(404, 'not-found',
      format('The archive holds no row of %s with these ids.', p_scope ->> 'target'));
  end if;
end
$$;

-- The same for a run of which nothing is archived.
create or replace function lull.check_run_scope(p_run uuid, p_scope jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select 1 from lull.cleanup_runs where id = p_run) then
    perform lull.refuse(404, 'not-found', format('There is no run %s.', p_run));
  elsif p_scope ? 'policy' and not exists (
    select 1 from lull.cleanup_run_policies l
    where l.run_id = p_run and p_scope ->> 'policy' in (l.policy, split_part(l.policy, ':', 1))
  ) then
    perform lull.refuse(404, 'not-found', format('Run %s had no policy "%s".', p_run, p_scope ->> 'policy'));
  elsif (
    select coalesce(sum(l.did), 0) > (select coalesce(sum(r.roots), 0) from lull.restores r where r.run_id = p_run)
      and bool_and(coalesce(l.completed_at, l.opened_at) + make_interval(
        days => (l.definition ->> 'restore_days')::integer) < now())
    from lull.cleanup_run_policies l
    where l.run_id = p_run and l.did > 0 and (l.definition ->> 'archive')::boolean
  ) then
    perform lull.refuse(410, 'archive-purged', format('What run %s archived was purged: it is gone for good.', p_run));
  elsif p_scope ? 'ids' and not exists (
    select 1 from jsonb_array_elements_text(p_scope -> 'ids') i
    join lull.cleanup_run_policies l on l.run_id = p_run
    where lull.missing_reason(l.definition ->> 'target', i) is null
  ) then
    perform lull.refuse(404, 'not-found', format('The archive of run %s holds no row with these ids.', p_run));
  end if;
end
$$;
