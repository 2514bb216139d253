-- The names that operators know from the documents Lull came from, so that their SQL runs. A name that the project has
-- already is left alone: lull.install creates or replaces only what Lull made, and says so otherwise.

select lull.install('view', 'public.fe_chat_sessions', $ddl$
  create or replace view public.fe_chat_sessions with (security_invoker = true) as
  select id, owner_id as user_id, title, mode, status, metadata, created_at, first_message_at, last_activity_at,
    last_activity_at as updated_at
  from lull.sessions
  where kind = 'chat'
$ddl$);

select lull.install('view', 'public.reading_sessions', $ddl$
  create or replace view public.reading_sessions with (security_invoker = true) as
  select id, owner_id as host_user_id, title, status, status = 'active' as is_active, created_at,
    last_activity_at as updated_at
  from lull.sessions
  where kind = 'room'
$ddl$);

select lull.install('view', 'public.session_participants', $ddl$
  create or replace view public.session_participants with (security_invoker = true) as
  select id, session_id, user_id, anonymous_id, name, is_active, joined_at, last_seen_at
  from lull.session_participants
$ddl$);

-- Seed 002: rooms in which nobody was seen for SESSION_TIMEOUT_HOURS. A run like any other (lease, breaker, archive)
-- inside one transaction, at most 10,000 rows a call. Returns how many rooms were removed; raises when the breaker
-- stopped it or a row refused, and then nothing was changed.
select lull.install('function', 'public.cleanup_inactive_sessions()', $ddl$
  create or replace function public.cleanup_inactive_sessions()
  returns integer
  language plpgsql
  security definer
  set search_path = ''
  as $$
  declare
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
    if v_opened ->> 'outcome' <> 'open' then
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

-- Seed 002: has this session expired? True when it is active and has been idle for longer than its kind may be, and
-- when the cleanup has already taken it; null when nobody knows it.
select lull.install('function', 'public.check_session_expiry(uuid)', $ddl$
  create or replace function public.check_session_expiry(session_id_param uuid)
  returns boolean
  language sql
  stable
  security definer
  set search_path = ''
  as $$
    select coalesce(
      (select s.status = 'active' and coalesce(s.last_activity_at < now() - lull.expire_after(s.kind), false)
        from lull.sessions s where s.id = session_id_param),
      (select true from lull.archive a where a.target = 'lull.sessions' and a.key = session_id_param::text),
      (select true from lull.tombstones t where t.session_id = session_id_param))
  $$
$ddl$);

-- Seed 002: whoever updates a participant has seen it. An update that sets the clock itself is left as it is.
select lull.install('function', 'public.update_participant_last_seen()', $ddl$
  create or replace function public.update_participant_last_seen()
  returns trigger
  language plpgsql
  set search_path = ''
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
    create or replace trigger update_participant_last_seen
      before update on lull.session_participants
      for each row execute function public.update_participant_last_seen();
  end if;
end
$$;
