-- The library, reading and history: one item, a page of items, the versions of an item, and an old version back.

-- A version of an item, the current one by default; it must not be deleted. Raises 404, 410 `item-deleted`, and 410
-- `version-pruned` for one of the versions that are not kept any more.
create or replace function lull.read_version(p_namespace text, p_key text, p_caller jsonb, p_version integer)
returns lull.library_versions
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_item lull.library_items;
begin
  perform lull.check_namespace(p_namespace, p_caller);
  select * into v_item from lull.library_items where namespace = p_namespace and key = p_key and version > 0;
  if not found then
    perform lull.no_such_item();
  elsif v_item.deleted_at is not null then
    perform lull.item_is_deleted(v_item);
  end if;
  return lull.version_of(v_item, coalesce(p_version, v_item.version));
end
$$;

-- A version of an item that exists. Raises 404 for one that never was, 410 for one that is not kept any more.
create or replace function lull.version_of(p_item lull.library_items, p_version integer)
returns lull.library_versions
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_version lull.library_versions;
begin
  select * into v_version from lull.library_versions v
  where v.namespace = p_item.namespace and v.key = p_item.key and v.version = p_version and v.state = 'uploaded';
  if not found and p_version between 1 and p_item.version then
    perform lull.refuse(410, 'version-pruned',
      format('Version %s of this item is not kept any more: the last 20 are. The current one is %s.',
        p_version, p_item.version),
      jsonb_build_object('version', p_item.version)::text);
  elsif not found then
    perform lull.refuse(404, 'not-found', format('This item has no version %s.', p_version));
  end if;
  return v_version;
end
$$;

-- One item with its document, in its current version or p_version. Raises 404 or 410. Returns {"item"}.
create or replace function public.lull_get_item(
  p_namespace text, p_key text, p_caller jsonb, p_version integer default null)
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
begin
  return jsonb_build_object('item', lull.item_json(
    lull.read_version(p_namespace, p_key, p_caller, p_version), null, true));
end
$$;

-- A page of the items of a namespace by key, after the key p_after, without their documents: those that are there, or
-- with p_deleted those that can be undeleted. Returns {"items", "next": the last key or null}.
create or replace function public.lull_list_items(
  p_namespace text, p_caller jsonb, p_deleted boolean, p_after text, p_limit integer)
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
  v_items jsonb;
  v_page jsonb;
begin
  perform lull.check_namespace(p_namespace, p_caller);
  select coalesce(jsonb_agg(lull.item_json(v, i.deleted_at, false) order by i.key), '[]') into v_items
  from (
    select * from lull.library_items x
    where x.namespace = p_namespace and x.key > coalesce(p_after, '') and x.version > 0
      and (x.deleted_at is not null) = p_deleted
    order by x.key
    limit p_limit + 1
  ) i
  join lull.library_versions v on v.namespace = i.namespace and v.key = i.key and v.version = i.version;
  v_page := lull.fit_page(v_items, p_limit);
  return jsonb_build_object('items', v_page, 'next', case
    when jsonb_array_length(v_items) > jsonb_array_length(v_page) then v_page -> -1 -> 'key' end);
end
$$;

-- The versions of an item that are kept, newest first, without their documents. Raises 404 or 410.
-- Returns {"versions"}.
create or replace function public.lull_list_versions(p_namespace text, p_key text, p_caller jsonb)
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
  v_current lull.library_versions := lull.read_version(p_namespace, p_key, p_caller, null);
begin
  return jsonb_build_object('versions', (
    select jsonb_agg(lull.item_json(v, null, false) order by v.version desc)
    from lull.library_versions v
    where v.namespace = p_namespace and v.key = p_key and v.version <= v_current.version));
end
$$;

-- Bring an old version back: its content becomes a new version. Without p_expected, whatever the current one is.
-- Bringing back what the current version holds writes nothing. A file's bytes are not copied: both versions have the
-- same path. Raises 404, 410 and 412. Locks the item (before it the namespace's counter, where an hourly limit holds).
-- Returns {"item"}.
create or replace function public.lull_restore_version(
  p_namespace text, p_key text, p_caller jsonb, p_version integer, p_expected integer default null,
  p_limits jsonb default null)
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
  v_item lull.library_items;
  v_old lull.library_versions;
  v_current lull.library_versions;
begin
  perform lull.check_namespace(p_namespace, p_caller);
  if p_limits ->> 'writes_per_hour' is not null then
    perform lull.lock_namespace(p_namespace, 1, p_limits);
  end if;
  select * into v_item from lull.library_items
  where namespace = p_namespace and key = p_key and version > 0
  for no key update;
  if not found then
    perform lull.no_such_item();
  elsif v_item.deleted_at is not null then
    perform lull.item_is_deleted(v_item);
  elsif p_expected <> v_item.version then
    perform lull.item_mismatch(v_item.version);
  end if;
  v_old := lull.version_of(v_item, p_version);
  v_current := lull.version_of(v_item, v_item.version);
  if v_old.document = v_current.document or v_old.path = v_current.path then
    return jsonb_build_object('item', lull.item_json(v_current, null, true));
  end if;
  v_old.restored_from := p_version;
  return jsonb_build_object('item', lull.item_json(lull.write_version(v_item, v_old), null, true));
end
$$;
