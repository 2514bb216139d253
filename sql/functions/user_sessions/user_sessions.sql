-- User sessions: one record of JSON for each user of a namespace. A record is dead from least(expires_at, updated_at +
-- idle) on, by the database's clock, and absent for every function here even before a policy prunes it.
--
--   p_idle_seconds   how long a record lives without activity

-- Whether a record is alive.
create or replace function lull.is_live(p_record lull.user_sessions, p_idle_seconds double precision)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select p_record.user_id is not null
    and now() < least(p_record.expires_at, p_record.updated_at + make_interval(secs => p_idle_seconds));
$$;

-- The live record of a user: {"record": {"data", "version", "active_at", "expires_at"} or null}. Writes nothing.
create or replace function public.lull_get_user_session(
  p_namespace text, p_user text, p_idle_seconds double precision)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select jsonb_build_object('record', (
    select jsonb_build_object(
      'data', u.data, 'version', u.version, 'active_at', u.updated_at, 'expires_at', u.expires_at)
    from lull.user_sessions u
    where u.namespace = p_namespace and u.user_id = p_user
      and now() < least(u.expires_at, u.updated_at + make_interval(secs => p_idle_seconds))));
$$;

-- Whether a user has a live record: {"live"}. Writes nothing.
create or replace function public.lull_has_user_session(
  p_namespace text, p_user text, p_idle_seconds double precision)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select jsonb_build_object('live', exists (
    select 1 from lull.user_sessions u
    where u.namespace = p_namespace and u.user_id = p_user
      and now() < least(u.expires_at, u.updated_at + make_interval(secs => p_idle_seconds))));
$$;

-- Write a record. Without p_expected it only creates, over a dead record too; with it the current version must be that.
-- The same data and end write nothing but the clock, once it is a minute old. A write whose p_new is current already
-- was repeated, and succeeds. Locks the row. Returns {"version"}, or {"version": null, "current"} on a conflict.
create or replace function public.lull_set_user_session(
  p_namespace text, p_user text, p_data jsonb, p_expected text, p_new text, p_expires_at timestamptz,
  p_idle_seconds double precision)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_version text;
  v_record lull.user_sessions;
begin
  if p_expected is null then
    insert into lull.user_sessions as u (namespace, user_id, data, version, updated_at, expires_at)
    values (p_namespace, p_user, p_data, p_new, now(), p_expires_at)
    on conflict (namespace, user_id) do update
      set data = excluded.data, version = excluded.version, updated_at = now(), expires_at = excluded.expires_at
      where not now() < least(u.expires_at, u.updated_at + make_interval(secs => p_idle_seconds))
    returning version into v_version;
  else
    update lull.user_sessions u
    set data = p_data, version = p_new, updated_at = greatest(u.updated_at, now()), expires_at = p_expires_at
    where u.namespace = p_namespace and u.user_id = p_user and u.version = p_expected
      and now() < least(u.expires_at, u.updated_at + make_interval(secs => p_idle_seconds))
      and (u.data <> p_data or u.expires_at is distinct from p_expires_at)
    returning version into v_version;
  end if;
  if v_version is not null then
    return jsonb_build_object('version', v_version);
  end if;
  select * into v_record from lull.user_sessions where namespace = p_namespace and user_id = p_user;
  if not lull.is_live(v_record, p_idle_seconds) then
    return jsonb_build_object('version', null, 'current', null);
  elsif v_record.version = p_new then
    return jsonb_build_object('version', p_new);
  elsif v_record.version = p_expected then
    perform public.lull_touch_user_session(p_namespace, p_user, p_idle_seconds);
    return jsonb_build_object('version', p_expected);
  end if;
  return jsonb_build_object('version', null, 'current', v_record.version);
end
$$;

-- Count as activity: move the clock, once it is a minute old. Returns {"live"}.
create or replace function public.lull_touch_user_session(
  p_namespace text, p_user text, p_idle_seconds double precision)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
begin
  perform lull.require_server();
  update lull.user_sessions u
  set updated_at = greatest(u.updated_at, now())
  where u.namespace = p_namespace and u.user_id = p_user and u.updated_at <= now() - interval '60 seconds'
    and now() < least(u.expires_at, u.updated_at + make_interval(secs => p_idle_seconds));
  if found then
    return '{"live": true}';
  end if;
  return public.lull_has_user_session(p_namespace, p_user, p_idle_seconds);
end
$$;

-- Delete a record unconditionally. Returns {"live"}: whether it was alive.
create or replace function public.lull_delete_user_session(
  p_namespace text, p_user text, p_idle_seconds double precision)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_record lull.user_sessions;
begin
  delete from lull.user_sessions where namespace = p_namespace and user_id = p_user returning * into v_record;
  return jsonb_build_object('live', coalesce(lull.is_live(v_record, p_idle_seconds), false));
end
$$;

-- Remove (or count) up to p_limit records that are dead or idle for p_max_age seconds. A record in use by another
-- transaction stays. Returns {"count", "more"}. The cleanup run prunes by its policies, and keeps an archive.
create or replace function public.lull_prune_user_sessions(
  p_namespace text, p_idle_seconds double precision, p_max_age double precision, p_limit integer, p_dry_run boolean)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_users text[];
begin
  select array_agg(x.user_id) into v_users
  from (
    select u.user_id from lull.user_sessions u
    where u.namespace = p_namespace and not now() < least(
      u.expires_at, u.updated_at + make_interval(secs => least(p_idle_seconds, p_max_age)))
    limit p_limit + 1
  ) x;
  if not p_dry_run then
    delete from lull.user_sessions d
    using (
      select u.user_id from lull.user_sessions u
      where u.namespace = p_namespace and u.user_id = any (v_users[1:p_limit])
        and not now() < least(u.expires_at, u.updated_at + make_interval(secs => least(p_idle_seconds, p_max_age)))
      for update skip locked
    ) x
    where d.namespace = p_namespace and d.user_id = x.user_id;
  end if;
  return jsonb_build_object('count', least(coalesce(cardinality(v_users), 0), p_limit),
    'more', coalesce(cardinality(v_users), 0) > p_limit);
end
$$;

-- A page of the users with live records, by their ids, and with p_count the number of all.
-- Returns {"user_ids", "cursor" or null, "count"}.
create or replace function public.lull_list_user_sessions(
  p_namespace text, p_idle_seconds double precision, p_after text, p_limit integer, p_count boolean default false)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  with page as (
    select u.user_id from lull.user_sessions u
    where u.namespace = p_namespace and (p_after is null or u.user_id > p_after)
      and now() < least(u.expires_at, u.updated_at + make_interval(secs => p_idle_seconds))
    order by u.user_id
    limit p_limit + 1
  )
  select jsonb_build_object(
    'user_ids', (select coalesce(jsonb_agg(user_id order by user_id), '[]')
      from (select user_id from page order by user_id limit p_limit) p),
    'cursor', (select case when count(*) > p_limit then (
        select max(user_id) from (select user_id from page order by user_id limit p_limit) p) end from page),
    'count', case when p_count then (
      select count(*) from lull.user_sessions u
      where u.namespace = p_namespace
        and now() < least(u.expires_at, u.updated_at + make_interval(secs => p_idle_seconds))) else 0 end);
$$;
