-- Refusals: SQLSTATE PTnnn, which PostgREST answers as HTTP nnn. `detail` is the problem type, `message` is a sentence
-- for a person, `hint` is JSON with the problem's further members.

-- Refuse with an HTTP status, a stable problem type and a sentence. Never returns. PostgREST sends the sentence in the
-- status line too, where a line break or another control character of a caller's text makes the answer invalid HTTP:
-- each becomes a blank.
create or replace function lull.refuse(p_status integer, p_type text, p_message text, p_hint text default '')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using errcode = 'PT' || p_status, detail = p_type, hint = p_hint,
    message = regexp_replace(p_message, '[\u0001-\u001f\u007f]', ' ', 'g');
end
$$;

-- Refuse because the session does not exist for this caller: 410 for the owner of one that the cleanup deleted, 404 for
-- all other callers. Never returns.
create or replace function lull.no_such_session(p_session uuid, p_caller jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select 1 from lull.targets g
    where (g.name = 'lull.sessions' or g.kind is not null) and lull.archived_for(g.name, p_session::text, p_caller)
  ) then
    perform lull.refuse(410, 'session-archived',
      'This session was cleaned up after it had not been used. Activating it brings it back.');
  elsif exists (
    select 1 from lull.targets g
    where (g.name = 'lull.sessions' or g.kind is not null) and lull.purged_for(g.name, p_session::text, p_caller)
  ) then
    perform lull.refuse(410, 'session-gone',
      'This session was cleaned up after it had not been used, and can not be brought back any more.');
  end if;
  perform lull.refuse(404, 'not-found', 'There is no such session.');
end
$$;

-- Refuse a transition that the state machine does not have: 409 with the current status. Never returns.
create or replace function lull.wrong_status(p_session lull.sessions, p_verb text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform lull.refuse(409, 'wrong-status',
    format('A session that is %s cannot be %s. Nothing was changed.', p_session.status, p_verb),
    jsonb_build_object('currentStatus', p_session.status, 'version', p_session.version)::text);
end
$$;

-- Refuse a change of a version that is not the current one: 412 with both. Never returns.
create or replace function lull.version_mismatch(p_session lull.sessions)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform lull.refuse(412, 'version-mismatch',
    format('The session was changed meanwhile: its version is %s. Nothing was changed; read it and try again.',
      p_session.version),
    jsonb_build_object('currentStatus', p_session.status, 'version', p_session.version)::text);
end
$$;

-- Refuse a value that a caller sent: 422 that names the field. Never returns.
create or replace function lull.refuse_field(p_field text, p_message text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform lull.refuse(422, 'invalid-request', format('%s: %s', p_field, p_message),
    jsonb_build_object('errors', jsonb_build_array(jsonb_build_object('field', p_field, 'message', p_message)))::text);
end
$$;
