-- Events: delivery of the event log to a webhook, at least once, in order per session.
--
--   lull_claim_deliveries    queue new events of the log, then claim events to send
--   lull_settle_deliveries   store the receiver's answers: delivered, to be retried, or dead
--
--   queued ──claim──▶ (sent) ──settle──▶ delivered
--     ▲                            ├───▶ queued, due later        (failed: backoff with jitter)
--     └──── the claim expired      └───▶ dead                     (failed for 24 hours, or the receiver is gone)
--
-- An event is handed out only when every earlier event of its session is delivered or dead.

-- Queue the events after the reader's position: up to p_limit of them, and earlier events of their sessions.
-- Identity values commit out of order. So only transactions below the snapshot's xmin are read: none of those can still
-- commit an event. Within a session the order is that of the ids, which are assigned under the session's lock. A
-- transaction with a lower xid may have a higher id, so earlier events of a session are queued along with an event
-- (they are visible: they were committed before the lock was released).
-- The first call begins with the events of the last 24 hours. Locks the reader's row; does nothing while another
-- transaction has it locked. A log that was restored from another cluster's dump is adapted first, by
-- core/restored_event_log.sql.
create or replace function lull.read_event_log(p_limit integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reader lull.event_readers;
begin
  insert into lull.event_readers (name, xid, id)
  select 'webhook', least(
      pg_snapshot_xmin(pg_current_snapshot()),
      (select min(xid) from lull.session_events where at >= now() - interval '24 hours')), 0
  where not exists (select 1 from lull.event_readers where name = 'webhook')
  on conflict do nothing;
  select * into v_reader from lull.event_readers where name = 'webhook' for update skip locked;
  if not found then
    return;
  elsif lull.rebase_event_log(50000) > 0 then
    select * into v_reader from lull.event_readers where name = 'webhook';
  end if;
  with page as (
    select e.id, e.session_id, e.xid
    from lull.session_events e
    where (e.xid, e.id) > (v_reader.xid, v_reader.id)
      and e.xid < pg_snapshot_xmin(pg_current_snapshot())
    order by e.xid, e.id
    limit p_limit
  ), queued as (
    insert into lull.deliveries (event_id, session_id)
    select p.id, p.session_id
    from page p
    union all
    select e.id, e.session_id
    from page p
    join lull.session_events e on e.session_id = p.session_id and e.id < p.id
    where not (e.xid, e.id) <= (v_reader.xid, v_reader.id)  -- in this form only the session's index is usable
    on conflict do nothing
  ), last as (
    select xid, id from page order by xid desc, id desc limit 1
  )
  update lull.event_readers r
  set xid = coalesce((select xid from last), r.xid),
    id = coalesce((select id from last), r.id),
    read_at = greatest(r.read_at, now())
  where r.name = v_reader.name;
end
$$;

-- Claim up to p_limit events, the first undelivered one of as many sessions, for p_seconds. After that they can be
-- claimed again. Concurrent callers get different events. An event that was deleted from the log before its delivery is
-- dead. The planner settings force index scans: with fresh statistics it would compare all queued events in pairs.
-- Returns {"claim": uuid, "events": [{"id", "session_id", "kind", "event", "at", "data"}], "pending"}.
create or replace function public.lull_claim_deliveries(p_limit integer, p_seconds integer)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '8s'
set timezone = 'UTC'
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
  v_server constant name := lull.require_server();
  v_claim uuid := gen_random_uuid();
  v_ids bigint[];
begin
  if p_limit is null or p_limit < 1 or p_seconds is null or p_seconds < 1 then
    perform lull.refuse(422, 'invalid-parameter', 'The limit and the seconds must be at least 1.');
  end if;
  perform lull.read_event_log(1000);
  with first as (
    select d.event_id
    from lull.deliveries d
    where d.state = 'queued'
      and d.due_at <= now()
      and (d.claimed_until is null or d.claimed_until <= now())
      and not exists (
        select 1 from lull.deliveries b
        where b.session_id = d.session_id and b.event_id < d.event_id and b.state = 'queued')
    order by d.due_at, d.event_id
    limit least(p_limit, 1000)
    for update of d skip locked
  ), claimed as (
    update lull.deliveries d
    set claim = v_claim, claimed_until = now() + make_interval(secs => p_seconds), attempts = d.attempts + 1,
      first_tried_at = coalesce(d.first_tried_at, now())
    from first f
    where d.event_id = f.event_id
    returning d.event_id
  )
  select array_agg(event_id) into v_ids from claimed;
  update lull.deliveries d
  set state = 'dead', settled_at = now(), last_error = 'the event was deleted from the log before it was delivered'
  where d.event_id = any (v_ids) and not exists (select 1 from lull.session_events e where e.id = d.event_id);
  return jsonb_build_object(
    'claim', v_claim,
    'events', (
      select coalesce(jsonb_agg(jsonb_build_object('id', e.id, 'session_id', e.session_id, 'kind', e.kind,
        'event', e.event, 'at', e.at, 'data', e.data) order by e.id), '[]')
      from lull.session_events e
      where e.id = any (v_ids)),
    'pending', (select count(*) from lull.deliveries where state = 'queued'));
end
$$;

-- Store the results of claimed events: [{"id", "outcome": "delivered" | "failed" | "gone", "error"}]. A result under a
-- claim that another caller has replaced changes nothing. A failed event is due again after 10 s. The delay doubles
-- each time up to one hour, and is shortened by a random part of up to half, so that retries spread. An event is dead
-- 24 hours after its first claim, and at once for the outcome `gone`. Events after a dead one are delivered. Returns
-- {"delivered", "failed", "dead", "pending"}.
create or replace function public.lull_settle_deliveries(p_claim uuid, p_results jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
as $$
declare
  v_server constant name := lull.require_server();
  v_counts record;
begin
  with settled as (
    update lull.deliveries d
    set state = s.state,
      settled_at = case when s.state <> 'queued' then now() end,
      last_error = r.error,
      due_at = case s.state when 'queued' then now()
        + make_interval(secs => least(3600, 10 * 2 ^ least(d.attempts - 1, 20)) * (0.5 + random() / 2))
        else d.due_at end,
      claim = null,
      claimed_until = null
    from jsonb_to_recordset(p_results) as r (id bigint, outcome text, error text),
      lateral (
        select case
          when r.outcome = 'delivered' then 'delivered'
          when r.outcome = 'gone' then 'dead'
          when w.first_tried_at <= now() - interval '24 hours' then 'dead'
          else 'queued'
        end as state
        from lull.deliveries w
        where w.event_id = r.id
      ) s
    where d.event_id = r.id and d.claim = p_claim and d.state = 'queued'
    returning d.state
  )
  select count(*) filter (where state = 'delivered') as delivered,
    count(*) filter (where state = 'queued') as failed,
    count(*) filter (where state = 'dead') as dead
  into v_counts
  from settled;
  return to_jsonb(v_counts) || jsonb_build_object(
    'pending', (select count(*) from lull.deliveries where state = 'queued'));
end
$$;
