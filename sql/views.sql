-- The names that operators know from earlier systems, so that their SQL runs. A name that the project uses already is
-- left alone: lull.install creates or replaces only objects of Lull, and prints a notice otherwise.
--
-- A view calls no function of schema lull: release 0.1.0's migration drops each of them, also after a rollback. What the
-- views say of activity is lull.active_at's rule.

select lull.install('view', 'public.fe_chat_sessions', $ddl$
  create or replace view public.fe_chat_sessions with (security_invoker = true) as
  select id, owner_id as user_id, title, mode, status, metadata, created_at, first_message_at,
    greatest(s.last_activity_at, s.commanded_at, (
      select max(p.last_seen_at) from lull.session_participants p where p.session_id = s.id)) as last_activity_at,
    greatest(s.last_activity_at, s.commanded_at, (
      select max(p.last_seen_at) from lull.session_participants p where p.session_id = s.id)) as updated_at
  from lull.sessions s
  where kind = 'chat'
$ddl$);

select lull.install('view', 'public.reading_sessions', $ddl$
  create or replace view public.reading_sessions with (security_invoker = true) as
  select id, owner_id as host_user_id, title, status, status = 'active' as is_active, created_at,
    greatest(s.last_activity_at, s.commanded_at, (
      select max(p.last_seen_at) from lull.session_participants p where p.session_id = s.id)) as updated_at
  from lull.sessions s
  where kind = 'room'
$ddl$);

select lull.install('view', 'public.session_participants', $ddl$
  create or replace view public.session_participants with (security_invoker = true) as
  select id, session_id, user_id, anonymous_id, name, is_active, joined_at, last_seen_at
  from lull.session_participants
$ddl$);

-- Clean up rooms without a heartbeat for SESSION_TIMEOUT_HOURS. This is a run like any other (lease, breaker, archive)
-- in one transaction, of at most 10,000 rows a call. Returns the number of removed rooms. Raises, and changes nothing,
-- when the breaker stopped it or a row could not be deleted.
select lull.install('function', 'public.cleanup_inactive_sessions()', $ddl$
  create or replace function public.cleanup_inactive_sessions()
  returns integer
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  as $$
  declare
    v_server constant name := lull.require_server();
    v_run jsonb := public.lull_begin_cleanup(lull.effective_policies(), 'cleanup_inactive_sessions', 60, 'empty-rooms');
    v_id uuid := (v_run ->> 'run_id')::uuid;
    v_token uuid := (v_run ->> 'token')::uuid;
    v_opened jsonb;
    v_batch jsonb;
    v_report jsonb;
  begin
    if not (v_run ->> 'started')::boolean then
      raise notice '%', v_run ->> 'message';
      return 0;
    end if;
    v_opened := public.lull_open_policy(v_id, v_token, 'empty-rooms');
    if v_opened ->> 'outcome' not in ('open', 'completed') then
      raise exception 'No room was touched: %.', coalesce(v_opened ->> 'stop_reason', v_opened ->> 'error');
    end if;
    for i in 1..10 loop
      v_batch := public.lull_cleanup_batch(v_id, v_token, 'empty-rooms', 1000);
      if v_batch ->> 'failed' is not null then
        raise exception 'No room was removed: %.', v_batch -> 'failed' ->> 'message';
      end if;
      exit when (v_batch ->> 'done')::boolean;
    end loop;
    v_report := public.lull_finish_cleanup(v_id, v_token, '{}', '{}');
    return (v_report -> 'policies' -> 0 ->> 'did')::integer;
  end
  $$
$ddl$);

-- Whether a session has expired: true when it is active and idle for longer than its policy's age, and when the cleanup
-- has archived or purged it; null for an unknown id.
select lull.install('function', 'public.check_session_expiry(uuid)', $ddl$
  create or replace function public.check_session_expiry(session_id_param uuid)
  returns boolean
  language sql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
  as $$
    select lull.require_server();
    select coalesce(
      (select lull.is_expired(s)
        from lull.sessions s where s.id = session_id_param),
      (select true where lull.archived_for('lull.sessions', session_id_param::text, '{"service": true}')),
      (select true from lull.tombstones t where t.session_id = session_id_param))
  $$
$ddl$);

-- An update of a participant sets last_seen_at to now, unless it changes that column or one of Lull's own: marking a
-- participant as away is no activity of theirs.
select lull.install('function', 'public.update_participant_last_seen()', $ddl$
  create or replace function public.update_participant_last_seen()
  returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
  as $$
  begin
    if new.last_seen_at is not distinct from old.last_seen_at then
      new.last_seen_at := greatest(old.last_seen_at, now());
    end if;
    return new;
  end
  $$
$ddl$);

do $$
begin
  if exists (select 1 from lull.objects where identity = 'public.update_participant_last_seen()') then
    -- of every column but last_seen_at and Lull's own: a heartbeat does not even ask
    perform lull.replace_trigger('update_participant_last_seen BEFORE UPDATE OF id, session_id, user_id, anonymous_id, '
      'name, is_active, joined_at ON lull.session_participants FOR EACH ROW '
      'WHEN (((NOT (old.last_seen_at IS DISTINCT FROM new.last_seen_at)) '
      'AND (NOT (old.tabs IS DISTINCT FROM new.tabs)) AND (NOT (old.leaving_at IS DISTINCT FROM new.leaving_at)) '
      'AND (NOT (old.away_since IS DISTINCT FROM new.away_since)) AND (NOT (old.left_at IS DISTINCT FROM new.left_at)) '
      'AND (NOT (old.removed_at IS DISTINCT FROM new.removed_at)))) '
      'EXECUTE FUNCTION public.update_participant_last_seen()');
  end if;
end
$$;
