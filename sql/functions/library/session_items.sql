-- The library, sessions: which versions of which items a session used. The notes go, and come back, with their session.

-- Note that a session used a version of an item, the current one by default. Counts as activity; noting it again
-- changes nothing else. Raises 404 or 410 for the session and for the item (410 `version-pruned` for a version that is
-- not kept any more), 409 for an ended session and beyond 200 notes. Locks the session. Returns {"item", "noted"}.
create or replace function public.lull_use_item(
  p_session uuid, p_caller jsonb, p_namespace text, p_key text, p_version integer default null)
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
  c_most constant integer := 200;
  v_session lull.sessions := lull.lock_session_for_rows(p_session, p_caller, p_caller ->> 'table', 'items');
  v_version lull.library_versions := lull.read_version(p_namespace, p_key, p_caller, p_version);
  v_used lull.session_items;
begin
  select * into v_used from lull.session_items
  where session_id = p_session and namespace = p_namespace and key = p_key and version = v_version.version;
  if found then
    return jsonb_build_object('item', lull.session_item_json(v_used), 'noted', false);
  elsif (select count(*) from lull.session_items where session_id = p_session) >= c_most then
    perform lull.refuse(409, 'too-many-items',
      format('A session can note %s versions of items, and this one has them. Nothing was noted.', c_most),
      jsonb_build_object('limit', c_most)::text);
  end if;
  insert into lull.session_items (session_id, namespace, key, version)
  values (p_session, p_namespace, p_key, v_version.version)
  returning * into v_used;
  -- The log outlives the user: of a user's own namespace it says neither whose it is nor the key.
  perform lull.append_event(p_session, v_session.kind, 'item.used', jsonb_build_object('version', v_version.version)
    || case when p_namespace like 'user:%' then '{"namespace": "user"}'
      else jsonb_build_object('namespace', p_namespace, 'key', p_key) end);
  return jsonb_build_object('item', lull.session_item_json(v_used), 'noted', true);
end
$$;

-- What a caller's session used, in the order of use. Raises 404 or 410. Returns {"items"}.
create or replace function public.lull_list_session_items(p_session uuid, p_caller jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_has_rows boolean := lull.has_rows(p_session, p_caller, p_caller ->> 'table');
begin
  return jsonb_build_object('items', (
    select coalesce(jsonb_agg(lull.session_item_json(i) order by i.used_at, i.namespace, i.key, i.version), '[]')
    from lull.session_items i
    where v_has_rows and i.session_id = p_session));
end
$$;

-- A used version as the session's owner sees it.
create or replace function lull.session_item_json(p_item lull.session_items)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('namespace', p_item.namespace, 'key', p_item.key, 'version', p_item.version,
    'used_at', p_item.used_at);
$$;
