-- The library, files: an item whose versions are files. Lull signs the URLs and stores the rows; the bytes are
-- transferred between the client and Storage, and taken over as those of a session's files are (sessions/files.sql).
--
--   register (pending, the number after the current one) ──complete──▶ the current version
--        └ any other change of the item ─▶ the pending version goes, and its bytes are queued for removal

-- Register a file as an item's next version: announced, and not the current one before its bytes are there.
-- p_expected as in lull.lock_item_for_write; another file that waits for its bytes is replaced. p_file: {"id",
-- "bucket", "path" (holds the id), "name", "content_type", "size", "sha256" (in hexadecimal, as its owner says)}. What
-- is at the upload path is removed an hour after the URL has expired, as for a session's file. The same file as the
-- current one registers nothing. Returns {"item", "registered"}.
create or replace function public.lull_register_item_file(
  p_namespace text, p_key text, p_caller jsonb, p_expected integer, p_file jsonb, p_upload_expires_at timestamptz,
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
  c_under_way constant interval := interval '30 minutes';
  c_to_complete constant interval := interval '1 hour';
  v_item lull.library_items := lull.lock_item_for_write(p_namespace, p_key, p_caller, p_expected, p_limits);
  v_version lull.library_versions;
begin
  if position(p_file ->> 'id' in p_file ->> 'path') = 0 then
    raise exception 'the path % does not hold the id of its file', p_file ->> 'path';
  end if;
  select * into v_version from lull.library_versions v
  where p_expected is not null and v.namespace = p_namespace and v.key = p_key and v.version = v_item.version;
  if (v_version.sha256, v_version.size, v_version.name, v_version.content_type)
    = (p_file ->> 'sha256', (p_file ->> 'size')::bigint, p_file ->> 'name', p_file ->> 'content_type')
  then
    return jsonb_build_object('item', lull.item_json(v_version, null, false), 'registered', false);
  end if;
  delete from lull.library_versions v
  where v.namespace = p_namespace and v.key = p_key and v.version = v_item.version + 1;
  insert into lull.library_versions (namespace, key, version, size, file_id, bucket, path, name, content_type, sha256,
    state, upload_expires_at)
  values (p_namespace, p_key, v_item.version + 1, (p_file ->> 'size')::bigint, (p_file ->> 'id')::uuid,
    p_file ->> 'bucket', p_file ->> 'path', p_file ->> 'name', p_file ->> 'content_type', p_file ->> 'sha256',
    'pending', greatest(p_upload_expires_at, now()) + c_under_way)
  returning * into v_version;
  insert into lull.file_removals (bucket, path, not_before, file_id)
  values (v_version.bucket, 'uploads/' || v_version.path, v_version.upload_expires_at + c_to_complete,
    v_version.file_id);
  return jsonb_build_object('item', lull.item_json(v_version, null, false), 'registered', true);
end
$$;

-- A file of an item with its bucket and path: p_file is one of any state; without it, that of p_version or the current
-- version. Raises 404, 410, and 404 for a document. Returns {"item", "bucket", "path"}.
create or replace function public.lull_get_item_file(
  p_namespace text, p_key text, p_caller jsonb, p_version integer default null, p_file uuid default null)
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
  v_version lull.library_versions;
begin
  if p_file is null then
    v_version := lull.read_version(p_namespace, p_key, p_caller, p_version);
    if v_version.path is null then
      perform lull.refuse(404, 'not-found', 'This version is a document, and has no file.');
    end if;
  else
    perform lull.check_namespace(p_namespace, p_caller);
    v_version := lull.announced_file(p_namespace, p_key, p_file);
  end if;
  return jsonb_build_object('item', lull.item_json(v_version, null, false), 'bucket', v_version.bucket,
    'path', v_version.path);
end
$$;

-- The version for which a file was registered. Raises 404 for an item or file that never was; where the item was
-- changed after the registration, 410 when it is deleted, and 412.
create or replace function lull.announced_file(p_namespace text, p_key text, p_file uuid)
returns lull.library_versions
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_item lull.library_items;
  v_version lull.library_versions;
begin
  select * into v_version from lull.library_versions v
  where v.namespace = p_namespace and v.key = p_key and v.file_id = p_file
  order by v.version desc
  limit 1;
  if not found then
    select * into v_item from lull.library_items where namespace = p_namespace and key = p_key;
    if v_item.key is null or not exists (
      select 1 from lull.file_removals r where r.file_id = p_file and r.path like 'uploads/library/%')
    then
      perform lull.refuse(404, 'not-found', 'There is no such file of this item.');
    elsif v_item.deleted_at is not null and v_item.version > 0 then
      perform lull.item_is_deleted(v_item);
    end if;
    perform lull.item_mismatch(nullif(v_item.version, 0));
  end if;
  return v_version;
end
$$;

-- Make a registered file the current version of its item, with the size and type that Storage reported. Idempotent.
-- Raises 409 when they differ from the registered ones, or the namespace is full; 410 and 412 when the item was
-- changed after the registration. Locks the namespace's counter, then the item. Returns {"item"}.
create or replace function public.lull_complete_item_file(
  p_namespace text, p_key text, p_caller jsonb, p_file uuid, p_size bigint, p_content_type text,
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
  v_version lull.library_versions;
begin
  perform lull.check_namespace(p_namespace, p_caller);
  perform lull.lock_namespace(p_namespace, 0, p_limits);
  select * into v_item from lull.library_items where namespace = p_namespace and key = p_key for no key update;
  v_version := lull.announced_file(p_namespace, p_key, p_file);
  if v_version.state = 'uploaded' then
    return jsonb_build_object('item', lull.item_json(v_version, null, false));
  elsif v_version.size <> p_size or v_version.content_type <> p_content_type then
    perform lull.refuse(409, 'file-mismatch',
      format('%s bytes of %s were registered, and %s bytes of %s were uploaded. Register the file again.',
        v_version.size, v_version.content_type, p_size, p_content_type),
      jsonb_build_object('size', p_size, 'contentType', p_content_type)::text);
  elsif v_item.deleted_at is not null then
    perform lull.check_item_count(p_namespace, p_limits);
  end if;
  return jsonb_build_object('item', lull.item_json(lull.write_announced(v_item, v_version), null, false));
end
$$;

-- Make a pending version of a locked item its current one. Its row stays: the trigger would queue its bytes.
create or replace function lull.write_announced(p_item lull.library_items, p_version lull.library_versions)
returns lull.library_versions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_kept constant integer := 20;
begin
  update lull.library_versions v set state = 'uploaded', written_at = now()
  where v.namespace = p_item.namespace and v.key = p_item.key and v.version = p_version.version
  returning * into p_version;
  delete from lull.library_versions v
  where v.namespace = p_item.namespace and v.key = p_item.key and v.version <= p_version.version - c_kept;
  update lull.library_items i set version = p_version.version, deleted_at = null
  where i.namespace = p_item.namespace and i.key = p_item.key;
  return p_version;
end
$$;

-- After a version was deleted, whatever deleted it: queue its bytes, unless another version of the item has the path.
-- Not before the upload URL has expired: until then a late upload could bring the bytes back.
create or replace function lull.queue_deleted_version()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into lull.file_removals (bucket, path, not_before)
  select old.bucket, old.path, greatest(now(), old.upload_expires_at)
  where not exists (select 1 from lull.library_versions v where v.bucket = old.bucket and v.path = old.path)
  on conflict (bucket, path) do nothing;
  return null;
end
$$;

select lull.replace_trigger('queue_deleted_version AFTER DELETE ON lull.library_versions FOR EACH ROW '
  'WHEN ((old.path IS NOT NULL)) EXECUTE FUNCTION lull.queue_deleted_version()');
