-- Insight, cells: what the event log says, by day and kind. A cell is a function of the log alone, so that roll-ups,
-- live numbers and a recount are the same numbers.
--
--   created, drafts           sessions created, and those of them that began as drafts
--   activated                 drafts with a first message; bucket 1: within 24 hours, 2: within 7 days, 3: later
--   abandoned, restored, discarded   drafts that a policy deleted, that came back, that their owner ended
--   ended, cleaned            sessions that were ended, and those that a policy deleted before anyone ended them
--   duration, participants, commands   of ended sessions: histograms (seconds, people who joined, commands applied)
--   files, uploaded           files registered, and those of them that were uploaded
--   item                      uses of a library item, by its name
--
-- What became of a draft or of a file belongs to the day on which it was created, all other cells to the event's day. A
-- session or file counts once in each: at the first such event.

-- The cells of the events of transactions from p_from to below p_to (null: to the end). What a session's events say
-- together is read at once for all sessions (as sets: a look-up for each event would cost seconds after a large run).
create or replace function lull.event_cells(p_from xid8, p_to xid8, p_zone text)
returns table (day date, kind text, measure text, label text, bucket smallint, n bigint, total double precision)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return query
  with e as materialized (
    select v.id, v.session_id, v.kind, v.event, v.at, v.data
    from lull.session_events v
    where v.xid >= p_from and (p_to is null or v.xid < p_to)
  ), turn as materialized (
    select * from lull.first_turns(p_from, p_to)
  ), single (at, kind, measure, label, bucket, amount) as (
    select e.at, e.kind, 'created', '', 0, 0 from e where e.event = 'created'
    union all
    select e.at, e.kind, 'drafts', '', 0, 0 from e where e.event = 'created' and e.data ->> 'status' = 'draft'
    union all
    select t.created_at, t.kind, t.turn, '', case when t.turn <> 'activated' then 0
      when t.at < t.created_at + interval '24 hours' then 1 when t.at < t.created_at + interval '7 days' then 2
      else 3 end, 0
    from turn t where t.turn <> 'end' and t.was_draft
    union all
    select t.at, t.kind, case t.event when 'ended' then 'ended' else 'cleaned' end, '', 0, 0
    from turn t where t.turn = 'end'
    union all
    select t.at, t.kind, m.measure, '', m.bucket, m.amount
    from turn t cross join lateral lull.end_histograms(t.id, t.session_id, t.kind, t.created_at, t.at) m
    where t.turn = 'end' and t.event = 'ended'
    union all
    select e.at, e.kind, 'files', '', 0, 0 from e where e.event = 'file-registered'
    union all
    select r.at, e.kind, 'uploaded', '', 0, 0
    from e cross join lateral (
      select x.at from lull.session_events x
      where x.session_id = e.session_id and x.id < e.id and x.event = 'file-registered'
        and x.data ->> 'file' = e.data ->> 'file' order by x.id limit 1) r
    where e.event = 'file-uploaded' and not exists (
      select 1 from lull.session_events x
      where x.session_id = e.session_id and x.id < e.id and x.event = 'file-uploaded'
        and x.data ->> 'file' = e.data ->> 'file')
    union all
    select e.at, e.kind, 'item', concat_ws(' ', e.data ->> 'namespace', e.data ->> 'key'), 0, 0
    from e where e.event = 'item.used'
  )
  select (s.at at time zone p_zone)::date, s.kind, s.measure, s.label, s.bucket::smallint, count(*),
    sum(s.amount)::double precision
  from single s group by 1, 2, 3, 4, 5;
end
$$;

-- The turns that sessions took for the first time in these transactions: what became of a draft (`activated`,
-- `restored`, `discarded`, `abandoned`), and `end`, when a session was ended or a policy deleted it while it was active
-- or paused (not when its owner discarded it). created_at and was_draft are null where the log does not reach back.
create or replace function lull.first_turns(p_from xid8, p_to xid8)
returns table (id bigint, session_id uuid, kind text, turn text, event text, at timestamptz, created_at timestamptz,
  was_draft boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  return query
  with turned as materialized (
    select distinct v.session_id from lull.session_events v
    where v.xid >= p_from and (p_to is null or v.xid < p_to)
      and v.event in ('activated', 'restored', 'ended', 'archived', 'purged')
  ), history as materialized (
    select x.id, x.session_id, x.target, x.kind, x.event, x.at, x.data ->> 'status' as status,
      x.data ->> 'reason' = 'discarded' as is_discarded, x.data ? 'policy' as by_policy,
      x.xid >= p_from and (p_to is null or x.xid < p_to) as is_new
    from turned s join lull.session_events x on x.session_id = s.session_id
    where x.event in ('created', 'activated', 'restored', 'ended', 'archived', 'purged')
  ), turn as (
    select distinct on (h.session_id, h.target, t.turn) h.*, t.turn
    from history h cross join lateral (
      select case
        when h.event in ('created', 'activated', 'restored') then h.event
        when h.event = 'ended' and h.is_discarded then 'discarded'
        when h.event in ('archived', 'purged') and h.by_policy and h.status = 'draft' then 'abandoned' end as turn
      union all
      select 'end' where h.event = 'ended' or h.event in ('archived', 'purged') and h.by_policy
        and h.status in ('active', 'paused')) t
    where t.turn is not null
    order by h.session_id, h.target, t.turn, h.id
  )
  select t.id, t.session_id, t.kind, t.turn, t.event, t.at, c.at, c.status = 'draft'
  from turn t
  left join turn c on c.session_id = t.session_id and c.target is not distinct from t.target and c.turn = 'created'
  where t.is_new and t.turn <> 'created' and (t.turn <> 'end' or t.is_discarded is not true);
end
$$;

-- The histograms of a session that was ended with this event. p_created: null for unknown.
create or replace function lull.end_histograms(
  p_id bigint, p_session uuid, p_kind text, p_created timestamptz, p_at timestamptz)
returns table (measure text, bucket integer, amount double precision)
language plpgsql
stable
rows 3
set search_path = pg_catalog, pg_temp
as $$
declare
  v_joined integer;
  v_applied integer;
begin
  if p_created is not null then
    return query select 'duration', h.bucket, h.amount
      from lull.histogram(extract(epoch from p_at - p_created)::double precision) h;
  end if;
  select count(distinct x.data ->> 'participant') filter (where x.event = 'participant.joined'),
    count(*) filter (where x.event = 'command_processed')
  into v_joined, v_applied
  from lull.session_events x where x.session_id = p_session and x.id < p_id;
  return query select 'participants', h.bucket, h.amount from lull.histogram(v_joined) h where v_joined > 0;
  return query select 'commands', h.bucket, h.amount from lull.histogram(v_applied) h where p_kind = 'game';
end
$$;

-- The bucket of an amount: each is 2^(1/4) wide, so that a median is within 9 %. Amounts up to 1 share the first.
create or replace function lull.histogram(p_amount double precision)
returns table (bucket integer, amount double precision)
language sql
immutable
rows 1
set search_path = pg_catalog, pg_temp
as $$
  select floor(4 * log(2, greatest(p_amount, 1)::numeric))::integer, greatest(p_amount, 0);
$$;
