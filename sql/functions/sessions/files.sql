-- Sessions, files: attached before or after the first message. Lull signs the URLs and stores the rows; the bytes are
-- transferred between the browser and Storage.
--
--   register (pending) ──complete──▶ uploaded ──delete──▶ bytes queued for removal
--        └ the upload URL expires unused ─▶ policy expired-uploads ─▶ bytes queued for removal
--
-- An upload URL stays good for its hours, also after the upload: by it the bytes at its path can be replaced (TUS) and,
-- on some servers, read. So it is for an upload path, `uploads/<path>`: completing moves the bytes to the file's path,
-- for which no URL was ever signed. What is at the upload path is removed once the URL has expired.
--
-- Every writer locks the session first, then the file's row, and counts as activity. The files of an ended session can
-- be read and not changed.

-- A file as its owner sees it.
create or replace function lull.file_json(p_file lull.session_files)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'id', p_file.id, 'name', coalesce(p_file.name, regexp_replace(p_file.path, '^.*/', '')), 'size', p_file.size,
    'content_type', coalesce(p_file.content_type, 'application/octet-stream'), 'state', p_file.state,
    'created_at', p_file.created_at, 'uploaded_at', p_file.uploaded_at);
$$;

-- Refuse a file that the session does not have. Never returns.
create or replace function lull.no_such_file()
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  select lull.refuse(404, 'not-found', 'There is no such file in this session.');
$$;

-- How many files count against a session's limit: those it has, and deleted ones whose upload URL can still be used.
create or replace function lull.count_files(p_session uuid)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select (select count(*) from lull.session_files f where f.session_id = p_session)
    + (select count(*) from lull.file_removals r
      where r.session_id = p_session and r.not_before > now()
        and not exists (select 1 from lull.session_files f where f.id = r.file_id));
$$;

-- Register a file whose upload URL was signed for the upload path of this path. The path holds the file's id, so that
-- it is never used twice. The stored expiry is 30 minutes later than the URL's: an upload in progress at that time ends
-- before it. What is at the upload path an hour later is removed. Locks the session, so that concurrent calls cannot
-- exceed the limit; deleted files count until their URL has expired. Returns {"file"}.
create or replace function public.lull_register_file(
  p_session uuid, p_caller jsonb, p_file uuid, p_name text, p_content_type text, p_size bigint, p_bucket text,
  p_path text, p_upload_expires_at timestamptz, p_most_files integer)
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
  v_session lull.sessions := lull.lock_session_for_rows(p_session, p_caller, p_caller ->> 'table', 'files');
  v_file lull.session_files;
begin
  if lull.count_files(p_session) >= p_most_files then
    perform lull.refuse(409, 'too-many-files',
      format('A session can have %s files, and this one has them; a deleted one counts until its upload URL has '
        'expired. Nothing was registered.', p_most_files),
      jsonb_build_object('limit', p_most_files)::text);
  end if;
  if position(p_file::text in p_path) = 0 then
    raise exception 'the path % does not hold the id of its file', p_path;
  end if;
  insert into lull.session_files (id, session_id, bucket, path, name, content_type, size, upload_expires_at)
  values (p_file, p_session, p_bucket, p_path, p_name, p_content_type, p_size,
    greatest(p_upload_expires_at, now()) + c_under_way)
  returning * into v_file;
  insert into lull.file_removals (bucket, path, not_before, session_id, file_id)
  values (p_bucket, 'uploads/' || p_path, v_file.upload_expires_at + c_to_complete, p_session, p_file);
  perform lull.append_event(p_session, v_session.kind, 'file-registered',
    jsonb_build_object('file', p_file, 'size', p_size, 'contentType', p_content_type));
  return jsonb_build_object('file', lull.file_json(v_file));
end
$$;

-- Mark a file as uploaded with the size and type that Storage reported. Idempotent. Raises 409 when they differ from
-- the registered ones: the path cannot be written again. Locks the session, then the file's row (a cleanup may delete
-- it at the same time). Returns {"file"}.
create or replace function public.lull_complete_file(
  p_session uuid, p_caller jsonb, p_file uuid, p_size bigint, p_content_type text)
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
  v_session lull.sessions := lull.lock_session_for_rows(p_session, p_caller, p_caller ->> 'table', 'files');
  v_file lull.session_files;
begin
  select * into v_file from lull.session_files where id = p_file and session_id = p_session for update;
  if not found then
    perform lull.no_such_file();
  elsif v_file.state = 'uploaded' then
    return jsonb_build_object('file', lull.file_json(v_file));
  elsif v_file.size <> p_size or v_file.content_type <> p_content_type then
    perform lull.refuse(409, 'file-mismatch',
      format('%s bytes of %s were registered, and %s bytes of %s were uploaded. '
        'Delete this file, and register it again.',
        v_file.size, v_file.content_type, p_size, p_content_type),
      jsonb_build_object('size', p_size, 'contentType', p_content_type)::text);
  end if;
  update lull.session_files set state = 'uploaded', uploaded_at = now() where id = p_file returning * into v_file;
  perform lull.append_event(p_session, v_session.kind, 'file-uploaded',
    jsonb_build_object('file', p_file, 'size', v_file.size));
  return jsonb_build_object('file', lull.file_json(v_file));
end
$$;

-- Delete a file. Its row is deleted now. The trigger on the table queues its bytes for removal after the expiry of the
-- upload URL (core/archive.sql). Locks the session.
create or replace function public.lull_delete_file(
  p_session uuid, p_caller jsonb, p_file uuid)
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
  v_session lull.sessions := lull.lock_session_for_rows(p_session, p_caller, p_caller ->> 'table', 'files');
  v_file lull.session_files;
begin
  delete from lull.session_files where id = p_file and session_id = p_session returning * into v_file;
  if not found then
    perform lull.no_such_file();
  end if;
  perform lull.append_event(p_session, v_session.kind, 'file-deleted', jsonb_build_object('file', p_file));
  return jsonb_build_object('file', lull.file_json(v_file));
end
$$;

-- One file of a caller's session, with its bucket and path. Raises 404 or 410.
create or replace function public.lull_get_file(
  p_session uuid, p_caller jsonb, p_file uuid)
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
  v_has_files boolean := lull.has_rows(p_session, p_caller, p_caller ->> 'table');
  v_file lull.session_files;
begin
  select * into v_file from lull.session_files where v_has_files and id = p_file and session_id = p_session;
  if not found then
    perform lull.no_such_file();
  end if;
  return jsonb_build_object('file', lull.file_json(v_file), 'bucket', v_file.bucket, 'path', v_file.path);
end
$$;

-- Every file of a caller's session, oldest first; their number is limited when they are registered. Returns {"files"}.
create or replace function public.lull_list_files(p_session uuid, p_caller jsonb)
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
  v_has_files boolean := lull.has_rows(p_session, p_caller, p_caller ->> 'table');
begin
  return jsonb_build_object('files', (
    select coalesce(jsonb_agg(lull.file_json(f) order by f.created_at, f.id), '[]')
    from lull.session_files f
    where v_has_files and f.session_id = p_session));
end
$$;
