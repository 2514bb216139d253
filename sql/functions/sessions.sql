-- Sessions: transitions. Each locks the session first, changes it once, and appends one event under that lock.

-- Activate a session on its first message. Idempotent: a second call changes nothing and answers with the first
-- first_message_at. A draft that the cleanup archived is restored with everything below it; one that was purged is
-- 410, one that nobody knows 404, a paused or ended one 409. Returns {"id", "status", "first_message_at",
-- "activated", "restored"}.
-- Lock order: session, archive row, session again (another late activation may have restored it meanwhile).
create or replace function lull.activate_session(p_session uuid)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_session lull.sessions := lull.lock_session(p_session);
  v_restored boolean := false;
begin
  if v_session.id is null then
    v_restored := coalesce((lull.restore_archived('lull.sessions', p_session::text) ->> 'restored')::boolean, false);
    v_session := lull.lock_session(p_session);
  end if;
  if v_session.id is null then
    perform lull.session_gone(p_session);
  elsif v_session.status in ('paused', 'ended') then
    perform lull.refuse(409, 'wrong-status', format('A session that is %s cannot be activated.', v_session.status));
  elsif v_session.status = 'draft' then
    update lull.sessions
    set status = 'active', first_message_at = now(), version = version + 1,
      last_activity_at = greatest(last_activity_at, now())
    where id = p_session;
    perform lull.append_event(p_session, v_session.kind, 'activated', '{}');
  end if;
  return (
    select jsonb_build_object('id', id, 'status', status, 'first_message_at', first_message_at,
      'activated', v_session.status = 'draft', 'restored', v_restored)
    from lull.sessions where id = p_session);
end
$$;
