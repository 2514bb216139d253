-- Core, returns: a session that was idle for an hour or longer, and is used again, has an event `returned`. Statistics
-- learn from it how long people stay away (sql/functions/insight/idle_gaps.sql).

-- Append `returned` {"idle": seconds, "status"} after a change of a session's clock, or of a participant's
-- last_seen_at. The session was idle since the newest of them, without what this transaction wrote. A restore is no
-- return. The event is not broadcast: what the user did is.
--
-- A heartbeat has the participant's row locked, and a batch locks the session first: there the session is not waited
-- for, and a return in the moment of a batch or of another change is not noted.
--
-- It calls no function of Lull's: a release before it drops those on a rollback, and leaves triggers.
create or replace function lull.note_return()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_session lull.sessions;
  v_clock timestamptz;
  v_idle interval;
begin
  if current_setting('lull.restoring', true) = 'on' then
    return null;
  elsif tg_table_name = 'sessions' then
    v_session := old;
    if new.end_reason = 'restart_limit' then
      return null;
    end if;
    v_clock := greatest(old.last_activity_at, old.commanded_at);
    v_idle := greatest(new.last_activity_at, new.commanded_at) - v_clock;
  else
    select * into v_session from lull.sessions
    where id = new.session_id and status in ('draft', 'active') and companion_of is null for no key update skip locked;
    v_clock := greatest(old.last_seen_at,
      case when v_session.last_activity_at < now() then v_session.last_activity_at end,
      case when v_session.commanded_at < now() then v_session.commanded_at end);
    v_idle := new.last_seen_at - v_clock;
  end if;
  v_idle := least(v_idle, v_idle + v_clock - (
    select max(p.last_seen_at) from lull.session_participants p
    where p.session_id = v_session.id and p.last_seen_at < now()));
  insert into lull.session_events (session_id, kind, event, data)
  select v_session.id, v_session.kind, 'returned', jsonb_build_object(
    'idle', floor(extract(epoch from v_idle))::bigint, 'status', v_session.status)
  where v_session.id is not null and v_idle >= interval '1 hour' and not exists (
    select 1 from lull.session_events e
    where e.session_id = v_session.id and e.event = 'returned' and e.at = now());
  return null;
end
$$;

select lull.replace_trigger('note_return AFTER UPDATE OF last_activity_at, commanded_at ON lull.sessions FOR EACH ROW '
  'WHEN (((old.status = ANY (ARRAY[''draft''::text, ''active''::text])) AND (old.companion_of IS NULL) AND '
  '(GREATEST(new.last_activity_at, new.commanded_at) >= '
  '(GREATEST(old.last_activity_at, old.commanded_at) + ''01:00:00''::interval)))) '
  'EXECUTE FUNCTION lull.note_return()');
select lull.replace_trigger('note_seen_again AFTER UPDATE OF last_seen_at ON lull.session_participants FOR EACH ROW '
  'WHEN ((new.last_seen_at >= (old.last_seen_at + ''01:00:00''::interval))) '
  'EXECUTE FUNCTION lull.note_return()');
