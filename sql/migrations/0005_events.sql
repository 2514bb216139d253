-- Delivering events to a webhook: how far the ledger was read, and what became of each event.
--
--   session_events ──(read in the order of their transactions)──▶ deliveries ──▶ delivered | dead
--
-- A delivery refers to its event by number, without a foreign key: the ledger is pruned by a policy, and a key that
-- restricts would make that policy fail. Instead the ledger's target says which rows no policy may take.

-- The reading rule's index: identity values commit out of order, transactions are read once they are all over.
create index session_events_xid on lull.session_events (xid, id);

-- A reader of the ledger and the last event it read.
create table lull.event_readers (
  name text primary key,
  xid xid8 not null,
  id bigint not null,
  read_at timestamptz not null default now()
);

-- One row per event that was read: to be sent, or what became of it. `attempts` counts how often it was handed out;
-- who was handed it last proves it with `claim`.
create table lull.deliveries (
  event_id bigint primary key,
  session_id uuid not null,
  state text not null default 'queued',
  attempts integer not null default 0,
  queued_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  first_tried_at timestamptz,
  claim uuid,
  claimed_until timestamptz,
  last_error text,
  settled_at timestamptz,
  constraint deliveries_state_known check (state in ('queued', 'delivered', 'dead')),
  constraint deliveries_settled_when_not_queued check ((state = 'queued') = (settled_at is null)),
  constraint deliveries_attempts_not_negative check (attempts >= 0)
);
create index deliveries_due on lull.deliveries (due_at, event_id) where state = 'queued';
create index deliveries_in_line on lull.deliveries (session_id, event_id) where state = 'queued';
create index deliveries_settled_at on lull.deliveries (settled_at, event_id);
insert into lull.targets (name, key_columns, builtin) values ('lull.deliveries', '{event_id}', true);

-- A condition on rows aliased t that no policy may take, whatever it says. Only migrations write it.
alter table lull.targets add column unless text;

-- Undelivered events are not purged: those a reader has not come to, and those that still wait to be delivered. A
-- reader that was not heard of for 30 days was turned off, and holds nothing up any more.
update lull.targets
set unless = $$exists (
  select 1 from lull.event_readers r
  where r.read_at > now() - interval '30 days'
    and ((t.xid, t.id) > (r.xid, r.id)
      or exists (select 1 from lull.deliveries d where d.event_id = t.id and d.state = 'queued')))$$
where name = 'lull.session_events';

-- Dead letters: few, and looked at often.
create index deliveries_dead on lull.deliveries (settled_at) where state = 'dead';
