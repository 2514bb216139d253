-- Rooms: presence that rewrites one row without an index entry, invites, and when the last sweep was.
--
--   sessions ──< session_participants   a person in a session; `tabs` are the person's open pages
--           └──< invites                an unguessable link; the link's secret is derived, not stored

-- Activity by commands (games). In no index: a command writes it each time.
alter table lull.sessions add column if not exists commanded_at timestamptz;

-- The trigger of before answers any update with a new last_seen_at. sql/views.sql makes it again, for updates that change
-- none of Lull's columns.
do $$
begin
  if exists (
    select from pg_catalog.pg_trigger
    where tgrelid = 'lull.session_participants'::regclass and tgname = 'update_participant_last_seen')
  then
    drop trigger update_participant_last_seen on lull.session_participants;
  end if;
end $$;

alter table lull.session_participants
  add column tabs text[] not null default '{}',
  add column leaving_at timestamptz,
  add column away_since timestamptz,
  add column left_at timestamptz,
  add column removed_at timestamptz,
  add constraint session_participants_name_short check (char_length(name) <= 80) not valid;
alter table lull.session_participants set (fillfactor = 85);
comment on column lull.session_participants.tabs is 'The open pages of the person; a heartbeat names one.';
comment on column lull.session_participants.leaving_at is 'The last tab left: told as left after the grace.';
comment on column lull.session_participants.away_since is 'Was told as away.';

-- No index may contain last_seen_at, in its key, predicate or expression: a heartbeat is then a heap-only update.
drop index lull.session_participants_session;
drop index lull.idx_session_participants_last_seen;
create index idx_session_participants_last_seen on lull.session_participants (session_id);

-- One person is one active row: of several from before, the one seen last stays active.
update lull.session_participants p
set is_active = false
from (
  select id,
    row_number() over (partition by session_id, user_id order by last_seen_at desc, joined_at desc, id) as by_user,
    row_number() over (partition by session_id, anonymous_id order by last_seen_at desc, joined_at desc, id) as by_name,
    user_id, anonymous_id
  from lull.session_participants
  where is_active
) d
where d.id = p.id and (d.user_id is not null and d.by_user > 1 or d.anonymous_id is not null and d.by_name > 1);
create unique index session_participants_user on lull.session_participants (session_id, user_id)
  where user_id is not null and is_active;
create unique index session_participants_anonymous on lull.session_participants (session_id, anonymous_id)
  where anonymous_id is not null and is_active;

-- An invite lets people join. It goes, and comes back, with its session, uses included.
create table lull.invites (
  id uuid primary key,
  session_id uuid not null references lull.sessions (id) on delete cascade,
  max_uses integer,
  uses integer not null default 0,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  created_at timestamptz not null default now(),
  constraint invites_uses_within_limit check (uses <= max_uses),
  constraint invites_uses_not_negative check (uses >= 0),
  constraint invites_max_uses_positive check (max_uses > 0)
);
create index invites_session on lull.invites (session_id, created_at desc);

-- The last sweep: warnings before expiry, and participants who went away or left where no heartbeat tells of them.
create table lull.sweeps (
  id boolean primary key default true,
  started_at timestamptz not null,
  finished_at timestamptz,
  warned bigint not null default 0,
  told bigint not null default 0,
  constraint sweeps_one_row check (id)
);

-- When active sessions of a kind expire, and how long before they are warned about: by the policy with the shortest age.
-- A view, because a heartbeat reads it within its one statement.
create view lull.timeouts as
select distinct on (equals ->> 'kind') equals ->> 'kind' as kind, age, least(warn_before, age / 2) as warn_before
from lull.policies
where target = 'lull.sessions' and clock = 'last_activity_at' and equals ->> 'status' = 'active'
order by equals ->> 'kind', age, name;
