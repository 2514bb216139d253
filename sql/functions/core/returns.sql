-- Core, returns: a session that was idle for an hour or longer, and is used again, has an event `returned`. Statistics
-- learn from it how long people stay away (sql/functions/insight/idle_gaps.sql).

-- Append `returned` {"idle": seconds, "status"} after a change of a session's clock. It was idle since the newest of
-- its own clocks and its participants', without what this transaction wrote. A restore is no return.
create or replace function lull.note_return()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('lull.restoring', true), '') <> 'on'
    and new.end_reason is distinct from 'restart_limit'
  then
    perform lull.append_return(old, greatest(old.last_activity_at, old.commanded_at), greatest(
      new.last_activity_at, new.commanded_at));
  end if;
  return null;
end
$$;

-- The same after a heartbeat. It has the participant's row locked, and a batch locks the session first: the session is
-- not waited for, and a return in the moment of a batch or of another change is not noted.
create or replace function lull.note_seen_again()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_session lull.sessions;
begin
  select * into v_session from lull.sessions where id = new.session_id for no key update skip locked;
  if found and v_session.status in ('draft', 'active') and v_session.companion_of is null then
    perform lull.append_return(v_session, greatest(old.last_seen_at,
      case when v_session.last_activity_at < now() then v_session.last_activity_at end,
      case when v_session.commanded_at < now() then v_session.commanded_at end), new.last_seen_at);
  end if;
  return null;
end
$$;

-- Append the event where the session was idle for an hour or longer and this transaction has not noted it yet. It is
-- for statistics, and is not broadcast: what the user did is.
create or replace function lull.append_return(p_session lull.sessions, p_clock timestamptz, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_idle interval := p_now - greatest(p_clock, (
    select max(p.last_seen_at) from lull.session_participants p
    where p.session_id = p_session.id and p.last_seen_at < now()));
begin
  if v_idle >= interval '1 hour' and not exists (
    select 1 from lull.session_events e
    where e.session_id = p_session.id and e.event = 'returned' and e.at = now())
  then
    perform lull.append_quiet_event(p_session.id, p_session.kind, 'returned', jsonb_build_object(
      'idle', floor(extract(epoch from v_idle))::bigint, 'status', p_session.status));
  end if;
end
$$;

select lull.replace_trigger('note_return AFTER UPDATE OF last_activity_at, commanded_at ON lull.sessions FOR EACH ROW '
  'WHEN (((old.status = ANY (ARRAY[''draft''::text, ''active''::text])) AND (old.companion_of IS NULL) AND '
  '(GREATEST(new.last_activity_at, new.commanded_at) >= '
  '(GREATEST(old.last_activity_at, old.commanded_at) + ''01:00:00''::interval)))) '
  'EXECUTE FUNCTION lull.note_return()');
select lull.replace_trigger('note_seen_again AFTER UPDATE OF last_seen_at ON lull.session_participants FOR EACH ROW '
  'WHEN ((new.last_seen_at >= (old.last_seen_at + ''01:00:00''::interval))) '
  'EXECUTE FUNCTION lull.note_seen_again()');
