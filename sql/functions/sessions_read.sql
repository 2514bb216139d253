-- Sessions, reading: one, the caller's own, a session's events. Nothing here writes or locks.

-- One session of the caller's. Raises 404 or 410.
create or replace function public.lull_get_session(p_session uuid, p_caller jsonb)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_session lull.sessions;
begin
  select * into v_session from lull.sessions where id = p_session;
  if v_session.id is null or not lull.is_owner(v_session.owner_id, v_session.owner_token_hash, p_caller) then
    perform lull.no_such_session(p_session, p_caller);
  end if;
  return jsonb_build_object('session', lull.session_json(v_session));
end
$$;

-- The caller's own sessions, newest first, a page at a time: behind p_after ({"created_at", "id"} of the last one).
-- The service sees everybody's. Returns {"sessions", "next": {"created_at", "id"} or null}.
create or replace function public.lull_list_sessions(
  p_caller jsonb, p_kind text default null, p_status text default null, p_limit integer default 20,
  p_after jsonb default null)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_page jsonb;
  v_last jsonb;
begin
  select coalesce(jsonb_agg(lull.session_json(s) order by s.created_at desc, s.id desc), '[]') into v_page
  from (
    select * from lull.sessions s
    where case
        when coalesce((p_caller ->> 'service')::boolean, false) then true
        when p_caller ->> 'user_id' is not null then s.owner_id = (p_caller ->> 'user_id')::uuid
        else s.owner_token_hash = decode(p_caller ->> 'token_hash', 'hex')
      end
      and (p_kind is null or s.kind = p_kind)
      and (p_status is null or s.status = p_status)
      and (p_after is null
        or (s.created_at, s.id) < ((p_after ->> 'created_at')::timestamptz, (p_after ->> 'id')::uuid))
    order by s.created_at desc, s.id desc
    limit p_limit + 1
  ) s;
  if jsonb_array_length(v_page) > p_limit then
    v_page := v_page - p_limit;
    v_last := v_page -> -1;
  end if;
  return jsonb_build_object('sessions', v_page, 'next', case when v_last is not null then
    jsonb_build_object('created_at', v_last -> 'created_at', 'id', v_last -> 'id') end);
end
$$;

-- A session's events behind p_after, oldest first; without the ids of runs, which are the operator's. They are appended under the session's lock, so their order is the
-- order of what happened. Returns {"events": [{"id", "event", "at", "data"}], "more"}.
create or replace function public.lull_session_events(
  p_session uuid, p_caller jsonb, p_after bigint default 0, p_limit integer default 100)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_events jsonb;
begin
  perform public.lull_get_session(p_session, p_caller);
  select coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'event', e.event, 'at', e.at, 'data', e.data - 'run') order by e.id),
    '[]')
  into v_events
  from (
    select * from lull.session_events
    where session_id = p_session and id > p_after
    order by id
    limit p_limit + 1
  ) e;
  return jsonb_build_object(
    'events', case when jsonb_array_length(v_events) > p_limit then v_events - p_limit else v_events end,
    'more', jsonb_array_length(v_events) > p_limit);
end
$$;
