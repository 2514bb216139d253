-- Sessions, files: attached before or after the first message. Lull signs the URLs and keeps the rows; the bytes go
-- between the browser and Storage.
--
--   register (pending) ──complete──▶ uploaded ──delete──▶ bytes queued for removal
--        └ the upload URL expires unused ─▶ policy expired-uploads ─▶ bytes queued for removal
--
-- Every writer locks the session first, then the file's row, and counts as activity. An ended session is history: its
-- files are read and not changed.

-- A file as its owner sees it.
create or replace function lull.file_json(p_file lull.session_files)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'id', p_file.id, 'name', coalesce(p_file.name, regexp_replace(p_file.path, '^.*/', '')), 'size', p_file.size,
    'content_type', coalesce(p_file.content_type, 'application/octet-stream'), 'state', p_file.state,
    'created_at', p_file.created_at, 'uploaded_at', p_file.uploaded_at);
$$;

-- Lock a caller's session for a change of its files, as activity. Raises 404 or 410 when it is gone, 409 when it ended.
create or replace function lull.lock_session_for_files(p_session uuid, p_caller jsonb)
returns lull.sessions
language plpgsql
set search_path = ''
as $$
declare
  v_session lull.sessions := lull.lock_own_session(p_session, p_caller);
begin
  if v_session.status = 'ended' then
    perform lull.refuse(409, 'wrong-status',
      'The files of a session that is ended cannot be changed. Nothing was changed.',
      jsonb_build_object('currentStatus', v_session.status, 'version', v_session.version)::text);
  end if;
  return lull.touch_session(p_session, p_caller);
end
$$;

-- Refuse a file that the session does not have. Never returns.
create or replace function lull.no_such_file()
returns void
language sql
set search_path = ''
as $$
  select lull.refuse(404, 'not-found', 'There is no such file in this session.');
$$;

-- Register a file whose upload URL was signed for this path. The path holds the file's id, so that it is never used
-- twice. The expiry is kept with half an hour on top: an upload that was under way when the URL expired ends before.
-- Locks the session, so that the limit holds. Returns {"file"}.
create or replace function public.lull_register_file(
  p_session uuid, p_caller jsonb, p_file uuid, p_name text, p_content_type text, p_size bigint, p_bucket text,
  p_path text, p_upload_expires_at timestamptz, p_most_files integer)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  c_under_way constant interval := interval '30 minutes';
  v_session lull.sessions := lull.lock_session_for_files(p_session, p_caller);
  v_file lull.session_files;
begin
  if (select count(*) from lull.session_files where session_id = p_session) >= p_most_files then
    perform lull.refuse(409, 'too-many-files',
      format('A session can have %s files, and this one has them. Nothing was registered; delete one first.',
        p_most_files),
      jsonb_build_object('limit', p_most_files)::text);
  end if;
  if position(p_file::text in p_path) = 0 then
    raise exception 'the path % does not hold the id of its file', p_path;
  end if;
  insert into lull.session_files (id, session_id, bucket, path, name, content_type, size, upload_expires_at)
  values (p_file, p_session, p_bucket, p_path, p_name, p_content_type, p_size,
    greatest(p_upload_expires_at, now()) + c_under_way)
  returning * into v_file;
  perform lull.append_event(p_session, v_session.kind, 'file-registered',
    jsonb_build_object('file', p_file, 'size', p_size, 'contentType', p_content_type));
  return jsonb_build_object('file', lull.file_json(v_file));
end
$$;

-- Say that a file's bytes are there: Storage was asked, and answered with this size and type. Idempotent. Raises 409
-- when they are not what was registered: the path cannot be written again. Locks the session, then the file's row (the
-- sweep may have it). Returns {"file"}.
create or replace function public.lull_complete_file(
  p_session uuid, p_caller jsonb, p_file uuid, p_size bigint, p_content_type text)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_session lull.sessions := lull.lock_session_for_files(p_session, p_caller);
  v_file lull.session_files;
begin
  select * into v_file from lull.session_files where id = p_file and session_id = p_session for update;
  if not found then
    perform lull.no_such_file();
  elsif v_file.state = 'uploaded' then
    return jsonb_build_object('file', lull.file_json(v_file));
  elsif v_file.size <> p_size or v_file.content_type <> p_content_type then
    perform lull.refuse(409, 'file-mismatch',
      format('%s bytes of %s were registered, and %s bytes of %s were uploaded. Delete this file, and register it again.',
        v_file.size, v_file.content_type, p_size, p_content_type),
      jsonb_build_object('size', p_size, 'contentType', p_content_type)::text);
  end if;
  update lull.session_files set state = 'uploaded', uploaded_at = now() where id = p_file returning * into v_file;
  perform lull.append_event(p_session, v_session.kind, 'file-uploaded',
    jsonb_build_object('file', p_file, 'size', v_file.size));
  return jsonb_build_object('file', lull.file_json(v_file));
end
$$;

-- Delete a file: its row now; its bytes are queued by the trigger on the table, not before its upload URL can bring no
-- more (core_archive.sql). Locks the session.
create or replace function public.lull_delete_file(p_session uuid, p_caller jsonb, p_file uuid)
returns jsonb
language plpgsql
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_session lull.sessions := lull.lock_session_for_files(p_session, p_caller);
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

-- One file of a caller's session, and where its bytes are. Raises 404 or 410.
create or replace function public.lull_get_file(p_session uuid, p_caller jsonb, p_file uuid)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_file lull.session_files;
begin
  perform public.lull_get_session(p_session, p_caller);
  select * into v_file from lull.session_files where id = p_file and session_id = p_session;
  if not found then
    perform lull.no_such_file();
  end if;
  return jsonb_build_object('file', lull.file_json(v_file), 'bucket', v_file.bucket, 'path', v_file.path);
end
$$;

-- Every file of a caller's session, oldest first; registering bounds how many there are. Returns {"files"}.
create or replace function public.lull_list_files(p_session uuid, p_caller jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
begin
  perform public.lull_get_session(p_session, p_caller);
  return jsonb_build_object('files', (
    select coalesce(jsonb_agg(lull.file_json(f) order by f.created_at, f.id), '[]')
    from lull.session_files f
    where f.session_id = p_session));
end
$$;
