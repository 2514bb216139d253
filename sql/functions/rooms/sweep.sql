-- Rooms, the sweep: what time alone makes due, each minute. Warnings before a session expires, and people who went
-- away or left in sessions where no heartbeat tells of them. Nothing here deletes.

-- One bounded part of a sweep, one transaction: tell what is due in up to p_limit sessions, then warn. Called again
-- with "next" until that is null. Locks sessions without waiting: what others hold is left for the next sweep. Returns
-- {"warned", "told", "moved", "next"}; moved: sessions whose own clock followed a newer one.
create or replace function public.lull_sweep(
  p_interval double precision default 30, p_grace double precision default 10, p_limit integer default 1000,
  p_after jsonb default null)
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
  v_told integer := 0;
  v_warned jsonb;
begin
  if p_after is null then
    v_told := lull.tell_everywhere(p_interval, p_grace, p_limit);
  end if;
  v_warned := public.lull_warn_sessions(p_limit, p_after);
  insert into lull.sweeps as w (started_at, finished_at, warned, told)
  values (now(), case when v_warned ->> 'next' is null then clock_timestamp() end,
    (v_warned ->> 'warned')::bigint, v_told)
  on conflict (id) do update set
    started_at = case when p_after is null then excluded.started_at else w.started_at end,
    finished_at = coalesce(excluded.finished_at, w.finished_at),
    warned = excluded.warned + case when p_after is null then 0 else w.warned end,
    told = excluded.told + case when p_after is null then 0 else w.told end;
  return v_warned || jsonb_build_object('told', v_told);
end
$$;

-- Tell what is due in up to p_limit sessions, whose lock is free. Returns how many events were told.
create or replace function lull.tell_everywhere(p_interval double precision, p_grace double precision, p_limit integer)
returns integer
language sql
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(lull.tell_presence(d.session_id, null, p_interval, p_grace)), 0)::integer
  from (
    select session_id from lull.due_to_tell(p_interval, p_grace) group by session_id order by min(since) limit p_limit
  ) d;
$$;

-- The participants of whom something is due to be told, and since when.
create or replace function lull.due_to_tell(p_interval double precision, p_grace double precision)
returns table (session_id uuid, since timestamptz)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  -- First the few that are due, of all that are active: there is no index for it.
  with due as materialized (
    select p.session_id, coalesce(p.leaving_at, p.last_seen_at) as since
    from lull.session_participants p
    where p.is_active
      and (p.leaving_at < now() - make_interval(secs => p_grace)
        or p.away_since is null and p.leaving_at is null
          and p.last_seen_at < now() - make_interval(secs => 4.5 * p_interval))
  )
  select d.session_id, d.since
  from due d
  join lull.sessions s on s.id = d.session_id
  where s.companion_of is not null or s.status <> 'ended';
$$;

-- Warn of sessions that will expire: up to p_limit of each kind that a policy warns about. p_after ("next" of the
-- answer before): the kinds that have more, each with {"clock", "id"} of its last one. Each idle period is warned
-- about once. Returns {"warned", "moved", "next"}.
create or replace function public.lull_warn_sessions(p_limit integer default 1000, p_after jsonb default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_server constant name := lull.require_server();
  v_kind text;
  v_part jsonb;
  v_warned bigint := 0;
  v_moved bigint := 0;
  v_next jsonb := '{}';
begin
  for v_kind in select k from lull.warned_kinds() k where p_after is null or p_after ? k order by k loop
    v_part := lull.warn_kind(v_kind, p_limit, coalesce(p_after -> v_kind, '{"clock": "-infinity"}'));
    v_warned := v_warned + (v_part ->> 'warned')::bigint;
    v_moved := v_moved + (v_part ->> 'moved')::bigint;
    if v_part ->> 'next' is not null then
      v_next := v_next || jsonb_build_object(v_kind, v_part -> 'next');
    end if;
  end loop;
  return jsonb_build_object('warned', v_warned, 'moved', v_moved, 'next', nullif(v_next, '{}'));
end
$$;

-- The kinds of sessions that a policy warns about before they expire.
create or replace function lull.warned_kinds()
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select distinct equals ->> 'kind'
  from lull.policies
  where target = 'lull.sessions' and clock = 'last_activity_at' and warn_before is not null
    and equals ->> 'status' = 'active' and equals ->> 'kind' is not null;
$$;

-- The sessions of one kind that are due for a warning, oldest clock first, behind p_after. One that another clock keeps
-- gets its own moved to that one, so that the next sweep need not look again; any other is warned about, unless it
-- was in this idle period, or has expired already. Rows that others hold are passed over.
create or replace function lull.warn_kind(p_kind text, p_limit integer, p_after jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_expired constant timestamptz := now() - lull.expire_after(p_kind);
  v_cutoff constant timestamptz := v_expired + lull.warn_before(p_kind);
  v_seen record;
  v_one record;
begin
  execute format(
    'with due as materialized (
       select s as session, s.id, s.last_activity_at, s.warned_at
       from lull.sessions s
       where s.kind = %L and s.status = ''active'' and not s.hold and s.last_activity_at < $1
         and (s.companion_of is null or s.row_seen_at is null)
         and (s.last_activity_at, s.id) > ($2, $3)
       order by s.last_activity_at, s.id
       limit $4
       for no key update of s skip locked
     ), judged as materialized (
       select d.id, d.last_activity_at, lull.active_at(d.session) as active_at, d.warned_at
       from due d
     ), moved as (
       update lull.sessions s set last_activity_at = j.active_at
       from judged j where s.id = j.id and j.active_at >= $1
       returning s.id
     ), warned as (
       update lull.sessions s set warned_at = now()
       from judged j
       where s.id = j.id and j.active_at < $1 and j.active_at >= $5
         and (j.warned_at is null or j.warned_at < j.active_at)
       returning s.id, j.active_at
     )
     select (select count(*) from judged) as locked, (select count(*) from moved) as moved,
       (select coalesce(jsonb_agg(to_jsonb(w) order by w.active_at, w.id), ''[]'') from warned w) as warned,
       (select jsonb_build_object(''clock'', j.last_activity_at, ''id'', j.id) from judged j
         order by j.last_activity_at desc, j.id desc limit 1) as last', p_kind)
  into v_seen
  using v_cutoff, (p_after ->> 'clock')::timestamptz,
    coalesce(p_after ->> 'id', '00000000-0000-0000-0000-000000000000')::uuid, p_limit, v_expired;
  for v_one in select * from jsonb_to_recordset(v_seen.warned) w (id uuid, active_at timestamptz) loop
    perform lull.append_event(v_one.id, p_kind, 'session.expiring',
      jsonb_build_object('expiresAt', v_one.active_at + lull.expire_after(p_kind)));
  end loop;
  return jsonb_build_object('warned', jsonb_array_length(v_seen.warned), 'moved', v_seen.moved,
    'next', case when v_seen.locked >= p_limit then v_seen.last end);
end
$$;

-- What a sweep would do now, and when the last one was. Locks and writes nothing. Returns {"would_tell", "would_warn",
-- "last"}; would_warn counts sessions whose own clock is due, which other clocks may keep.
create or replace function public.lull_preview_sweep(
  p_interval double precision default 30, p_grace double precision default 10)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select jsonb_build_object(
    'would_tell', (select count(*) from lull.due_to_tell(p_interval, p_grace)),
    'would_warn', (
      select count(*)
      from lull.warned_kinds() k (kind)
      cross join lateral (select now() - lull.expire_after(k.kind) as expired, lull.warn_before(k.kind) as warn) a
      join lull.sessions s on s.kind = k.kind and s.status = 'active' and not s.hold
        and (s.companion_of is null or s.row_seen_at is null) and s.last_activity_at < a.expired + a.warn
      cross join lateral lull.active_at(s) x (active_at)
      where x.active_at < a.expired + a.warn and x.active_at >= a.expired
        and (s.warned_at is null or s.warned_at < x.active_at)),
    'last', (select to_jsonb(w) - 'id' from lull.sweeps w));
$$;

-- Statistics of rooms that are open: how many were used within the timeout and how many not, and up to p_limit of them,
-- used last first, with their participants. Locks nothing.
create or replace function public.lull_report_rooms(p_limit integer default 100)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set enable_seqscan = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  with open as (  -- as the indexes are: those on hold are in none of a policy
    select s from lull.sessions s where s.kind = 'room' and s.status = 'active' and not s.hold
    union all
    select s from lull.sessions s where s.kind = 'room' and s.status = 'active' and s.hold
  ), room as materialized (
    select (o.s).id, x.active_at, coalesce(x.active_at < now() - lull.expire_after('room'), false) as is_idle
    from open o
    cross join lateral lull.active_at(o.s) x (active_at)
    where (o.s).companion_of is null or (o.s).row_seen_at is null
  )
  select jsonb_build_object(
    'total_sessions', (select count(*) from room),
    'active_sessions', (select count(*) from room where not is_idle),
    'inactive_sessions', (select count(*) from room where is_idle),
    'rooms', (
      select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'participants', lull.seats_taken(r.id),
        'last_activity_at', r.active_at) order by r.active_at desc, r.id), '[]')
      from (select * from room order by active_at desc, id limit p_limit) r));
$$;
