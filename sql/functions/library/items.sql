-- The library: JSON documents and files that outlive a session, by namespace and key, with their last 20 versions.
--
--   put, complete ─▶ version 1, 2, 3 … ─delete─▶ deleted ─undelete─▶ back;  after 7 days policy deleted-items: gone
--         restore of version n ─▶ a new version with its content
--
-- Namespaces: `guild:…` and `app:…` are the service's; `user:{uuid}` is also that user's.
--
-- Lock order: the namespace's counter (a row of rate_counters; taken by what creates, deletes and brings back, and by
-- every write that an hourly limit holds for), then items in key order, then their versions.

-- Refuse an item that does not exist for this caller. Never returns.
create or replace function lull.no_such_item()
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  select lull.refuse(404, 'not-found', 'There is no such item in the library.');
$$;

-- Refuse an item that was deleted. Never returns.
create or replace function lull.item_is_deleted(p_item lull.library_items)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  select lull.refuse(410, 'item-deleted',
    'This item was deleted. Nothing was changed. Undelete it, or write it anew with If-None-Match: *.',
    jsonb_build_object('version', p_item.version, 'deletedAt', p_item.deleted_at)::text);
$$;

-- Refuse a write that was meant for another version: 412 with the current one (null: there is no item). Never returns.
create or replace function lull.item_mismatch(p_version integer)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  select lull.refuse(412, 'version-mismatch',
    case when p_version is null then 'There is no such item. Nothing was written; create it with If-None-Match: *.'
      else format('The item has version %s. Nothing was written; read it and try again.', p_version) end,
    jsonb_build_object('version', p_version)::text);
$$;

-- A version as its readers see it. The document only where it is asked for.
create or replace function lull.item_json(
  p_version lull.library_versions, p_deleted_at timestamptz, p_with_document boolean)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'namespace', p_version.namespace, 'key', p_version.key, 'version', p_version.version,
    'size', p_version.size, 'written_at', p_version.written_at, 'restored_from', p_version.restored_from,
    'deleted_at', p_deleted_at,
    'file', case when p_version.path is not null then jsonb_build_object(
      'id', p_version.file_id, 'name', p_version.name, 'content_type', p_version.content_type,
      'sha256', p_version.sha256, 'state', p_version.state) end)
    || case when p_with_document then jsonb_build_object('document', p_version.document) else '{}' end;
$$;

-- Lock an item for a write. p_expected is the version that the caller has read; null: there must be none, and then an
-- item that is deleted is written anew. Raises 404, 410, 412, and 409 or 429 over a limit. Locks the namespace's
-- counter where it creates or an hourly limit holds, then the item.
create or replace function lull.lock_item_for_write(
  p_namespace text, p_key text, p_caller jsonb, p_expected integer, p_limits jsonb)
returns lull.library_items
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_item lull.library_items;
begin
  perform lull.check_namespace(p_namespace, p_caller);
  if p_expected is null or p_limits ->> 'writes_per_hour' is not null then
    perform lull.lock_namespace(p_namespace, 1, p_limits);
  end if;
  select * into v_item from lull.library_items where namespace = p_namespace and key = p_key for no key update;
  if p_expected is null then
    if v_item.version > 0 and v_item.deleted_at is null then
      perform lull.item_mismatch(v_item.version);
    end if;
    perform lull.check_item_count(p_namespace, p_limits);
    insert into lull.library_items as i (namespace, key, deleted_at) values (p_namespace, p_key, now())
    on conflict (namespace, key) do update
      set deleted_at = case i.version when 0 then now() else i.deleted_at end
    returning * into v_item;
  elsif v_item.version is null or v_item.version = 0 then
    perform lull.item_mismatch(null);
  elsif v_item.deleted_at is not null then
    perform lull.item_is_deleted(v_item);
  elsif v_item.version <> p_expected then
    perform lull.item_mismatch(v_item.version);
  end if;
  return v_item;
end
$$;

-- Make the next version of a locked item its current one: store it, take a file that waited for its bytes under that
-- number away, and versions beyond 20. What becomes of the bytes is the trigger's business. Returns the version.
create or replace function lull.write_version(p_item lull.library_items, p_new lull.library_versions)
returns lull.library_versions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_kept constant integer := 20;
begin
  p_new.namespace := p_item.namespace;
  p_new.key := p_item.key;
  p_new.version := p_item.version + 1;
  p_new.state := 'uploaded';
  p_new.written_at := now();
  delete from lull.library_versions v
  where v.namespace = p_item.namespace and v.key = p_item.key and v.version = p_new.version;
  insert into lull.library_versions select p_new.*;
  delete from lull.library_versions v
  where v.namespace = p_item.namespace and v.key = p_item.key and v.version <= p_new.version - c_kept;
  update lull.library_items i set version = p_new.version, deleted_at = null
  where i.namespace = p_item.namespace and i.key = p_item.key;
  return p_new;
end
$$;

-- Write a document. p_expected as in lull.lock_item_for_write; a document that equals the current one writes nothing.
-- At most 256 KiB as Postgres writes JSON (422). Returns {"item", "created", "changed"}.
create or replace function public.lull_put_item(
  p_namespace text, p_key text, p_caller jsonb, p_document jsonb, p_expected integer, p_limits jsonb default null)
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
  v_version lull.library_versions;
  v_changed boolean := true;
begin
  perform lull.check_size('body', p_document, lull.largest_document());
  v_item := lull.lock_item_for_write(p_namespace, p_key, p_caller, p_expected, p_limits);
  select * into v_version from lull.library_versions v
  where p_expected is not null and v.namespace = p_namespace and v.key = p_key and v.version = v_item.version;
  if v_version.document = p_document then
    v_changed := false;
  else
    v_version := lull.write_version(v_item, lull.document_version(p_document));
  end if;
  return jsonb_build_object('item', lull.item_json(v_version, null, true), 'created', p_expected is null,
    'changed', v_changed);
end
$$;

-- The largest document in bytes, as Postgres writes JSON.
create or replace function lull.largest_document()
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select 262144;
$$;

-- A version that holds this document, not yet of any item.
create or replace function lull.document_version(p_document jsonb)
returns lull.library_versions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_version lull.library_versions;
begin
  v_version.document := p_document;
  v_version.size := octet_length(p_document::text);
  return v_version;
end
$$;

-- Delete an item: it is absent from now on, and can be undeleted until the policy deleted-items takes it. Without
-- p_expected, whatever its version is. Raises 404, 410 when it is deleted already, 412. Locks the namespace's
-- counter, then the item. Returns {"item"}.
create or replace function public.lull_delete_item(
  p_namespace text, p_key text, p_caller jsonb, p_expected integer default null, p_limits jsonb default null)
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
begin
  v_item := lull.lock_kept_item(p_namespace, p_key, p_caller, p_limits);
  if v_item.deleted_at is not null then
    perform lull.item_is_deleted(v_item);
  elsif p_expected <> v_item.version then
    perform lull.item_mismatch(v_item.version);
  end if;
  update lull.library_items set deleted_at = now() where namespace = p_namespace and key = p_key
  returning * into v_item;
  return lull.changed_item(v_item);
end
$$;

-- Bring a deleted item back as it was. One that is there stays as it is. Raises 404, and 409 when the namespace is
-- full. Locks the namespace's counter, then the item. Returns {"item"}.
create or replace function public.lull_undelete_item(
  p_namespace text, p_key text, p_caller jsonb, p_limits jsonb default null)
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
begin
  v_item := lull.lock_kept_item(p_namespace, p_key, p_caller, p_limits);
  if v_item.deleted_at is not null then
    perform lull.check_item_count(p_namespace, p_limits);
    update lull.library_items set deleted_at = null where namespace = p_namespace and key = p_key
    returning * into v_item;
  end if;
  return lull.changed_item(v_item);
end
$$;

-- Lock the namespace's counter, then an item that has a version, deleted or not. Raises 404.
create or replace function lull.lock_kept_item(p_namespace text, p_key text, p_caller jsonb, p_limits jsonb)
returns lull.library_items
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_item lull.library_items;
begin
  perform lull.check_namespace(p_namespace, p_caller);
  perform lull.lock_namespace(p_namespace, 1, p_limits);
  select * into v_item from lull.library_items
  where namespace = p_namespace and key = p_key and version > 0
  for no key update;
  if not found then
    perform lull.no_such_item();
  end if;
  return v_item;
end
$$;

-- A locked item after its deletion or return, which ends an announced file. Returns {"item"}, without the document.
create or replace function lull.changed_item(p_item lull.library_items)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_version lull.library_versions;
begin
  delete from lull.library_versions v
  where v.namespace = p_item.namespace and v.key = p_item.key and v.state = 'pending';
  select * into v_version from lull.library_versions v
  where v.namespace = p_item.namespace and v.key = p_item.key and v.version = p_item.version;
  return jsonb_build_object('item', lull.item_json(v_version, p_item.deleted_at, false));
end
$$;
