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

-- The cells of the events of transactions from p_from to below p_to (null: to the end).
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
    select v.id, v.session_id, v.kind, v.event, v.at, v.data, v.target, lull.draft_fate(v) as fate
    from lull.session_events v
    where v.xid >= p_from and (p_to is null or v.xid < p_to)
  ), single (at, kind, measure, label, bucket, amount) as (
    select e.at, e.kind, 'created', '', 0, 0 from e where e.event = 'created'
    union all
    select e.at, e.kind, 'drafts', '', 0, 0 from e where e.event = 'created' and e.data ->> 'status' = 'draft'
    union all
    select c.at, e.kind, e.fate, '', case when e.fate <> 'activated' then 0
      when e.at < c.at + interval '24 hours' then 1 when e.at < c.at + interval '7 days' then 2 else 3 end, 0
    from e cross join lateral lull.creation_of(e.session_id, e.target) c
    where e.fate is not null and c.is_draft and lull.is_first_fate(e.id, e.session_id, e.target, e.fate)
    union all
    select e.at, e.kind, m.measure, '', m.bucket, m.amount
    from e cross join lateral lull.end_cells(e.id, e.session_id, e.target, e.kind, e.event, e.at, e.data) m
    where e.event in ('ended', 'archived', 'purged')
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

-- What an event says of a draft's fate; null for nothing.
create or replace function lull.draft_fate(p_event lull.session_events)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when p_event.event = 'activated' then 'activated'
    when p_event.event = 'restored' then 'restored'
    when p_event.event = 'ended' and p_event.data ->> 'reason' = 'discarded' then 'discarded'
    when p_event.event in ('archived', 'purged') and p_event.data ? 'policy' and p_event.data ->> 'status' = 'draft'
      then 'abandoned' end;
$$;

-- When a session was created, and whether as a draft; no row where the log does not have it any more.
create or replace function lull.creation_of(p_session uuid, p_target text)
returns table (at timestamptz, is_draft boolean)
language sql
stable
rows 1
set search_path = pg_catalog, pg_temp
as $$
  select c.at, c.data ->> 'status' = 'draft' from lull.session_events c
  where c.session_id = p_session and c.event = 'created' and c.target is not distinct from p_target
  order by c.id limit 1;
$$;

-- Whether no earlier event of the session says the same of it.
create or replace function lull.is_first_fate(p_id bigint, p_session uuid, p_target text, p_fate text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select not exists (
    select 1 from lull.session_events x
    where x.session_id = p_session and x.id < p_id and x.target is not distinct from p_target
      and lull.draft_fate(x) = p_fate);
$$;

-- The cells of the event that ended a session. `cleaned` is a deletion of one that was active or paused. None for the
-- deletion of one that had ended, and for a second end after a restore.
create or replace function lull.end_cells(
  p_id bigint, p_session uuid, p_target text, p_kind text, p_event text, p_at timestamptz, p_data jsonb)
returns table (measure text, bucket integer, amount double precision)
language plpgsql
stable
rows 4
set search_path = pg_catalog, pg_temp
as $$
declare
  v_created timestamptz;
  v_joined integer;
  v_applied integer;
begin
  if p_event <> 'ended' and (not p_data ? 'policy' or coalesce(p_data ->> 'status', 'ended') in ('draft', 'ended'))
    or p_event = 'ended' and p_data ->> 'reason' = 'discarded'
    or exists (
      select 1 from lull.session_events x
      where x.session_id = p_session and x.id < p_id and x.target is not distinct from p_target
        and (x.event = 'ended' or x.event in ('archived', 'purged') and x.data ? 'policy'
          and x.data ->> 'status' in ('active', 'paused')))
  then
    return;
  end if;
  return query select case p_event when 'ended' then 'ended' else 'cleaned' end, 0, 0::double precision;
  if p_event <> 'ended' then
    return;
  end if;
  select c.at into v_created from lull.creation_of(p_session, p_target) c;
  if v_created is not null then
    return query select 'duration', h.bucket, h.amount
      from lull.histogram(extract(epoch from p_at - v_created)::double precision) h;
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
