-- Sessions and what hangs below them.
--
--   sessions ──< session_participants      (cascade: they go, and come back, with their session)
--           └──< session_files             (cascade; the bytes are removed later, through file_removals)
--   session_events                         (ledger without a foreign key: it outlives the session)
--   tombstones                             (what is left of a purged session: who may be told that it is gone)
--
-- A CHECK makes an impossible row impossible; "expired" is computed, never stored.

create table lull.sessions (
  id uuid primary key default gen_random_uuid(),
  kind text not null,
  status text not null default 'draft',
  owner_id uuid,
  owner_token_hash bytea,
  external_key text,
  title text,
  mode text,
  metadata jsonb not null default '{}',
  state jsonb not null default '{}',
  version integer not null default 1,
  created_at timestamptz not null default now(),
  first_message_at timestamptz,
  last_activity_at timestamptz not null default now(),
  paused_at timestamptz,
  ended_at timestamptz,
  end_reason text,
  instance_id text,
  lease_until timestamptz,
  restarts integer not null default 0,
  warned_at timestamptz,
  hold boolean not null default false,
  constraint sessions_kind_known check (kind in ('chat', 'room', 'game')),
  constraint sessions_status_known check (status in ('draft', 'active', 'paused', 'ended')),
  constraint sessions_draft_has_no_message check (status <> 'draft' or first_message_at is null),
  constraint sessions_paused_at_while_paused check (
    case status
      when 'paused' then paused_at is not null
      when 'ended' then true
      else paused_at is null
    end),
  constraint sessions_ended_at_when_ended check ((status = 'ended') = (ended_at is not null)),
  constraint sessions_end_reason_when_ended check (status = 'ended' or end_reason is null),
  constraint sessions_metadata_is_object check (jsonb_typeof(metadata) = 'object'),
  constraint sessions_state_is_object check (jsonb_typeof(state) = 'object'),
  constraint sessions_version_positive check (version > 0),
  constraint sessions_restarts_not_negative check (restarts >= 0)
);
comment on table lull.sessions is 'One row per chat, room or game; see docs/decisions.md and the README for the state machine.';

-- One partial index per default policy: small (the rows a policy may ever take), ordered as a batch reads them,
-- and without held rows, so that a selection reads nothing but stale rows. The rooms' one carries seed 002's name.
create index sessions_abandoned_drafts on lull.sessions (last_activity_at, id)
  where kind = 'chat' and status = 'draft' and first_message_at is null and not hold;
create index sessions_orphaned_games on lull.sessions (last_activity_at, id)
  where kind = 'game' and status = 'active' and not hold;
create index idx_reading_sessions_updated_at on lull.sessions (last_activity_at, id)
  where kind = 'room' and status = 'active' and not hold;

create table lull.session_participants (
  id uuid primary key default gen_random_uuid(),
  session_id uuid not null references lull.sessions (id) on delete cascade,
  user_id uuid,
  anonymous_id text,
  name text,
  is_active boolean not null default true,
  joined_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now()
);
create index session_participants_session on lull.session_participants (session_id);
create index idx_session_participants_last_seen on lull.session_participants (last_seen_at);

create table lull.session_files (
  id uuid primary key default gen_random_uuid(),
  session_id uuid not null references lull.sessions (id) on delete cascade,
  bucket text not null,
  path text not null,
  size bigint,
  state text not null default 'pending',
  upload_expires_at timestamptz,
  uploaded_at timestamptz,
  created_at timestamptz not null default now(),
  constraint session_files_state_known check (state in ('pending', 'uploaded')),
  constraint session_files_size_not_negative check (size >= 0),
  constraint session_files_path_not_empty check (path <> ''),
  constraint session_files_path_once unique (bucket, path)
);
create index session_files_session on lull.session_files (session_id);

create table lull.session_events (
  id bigint generated always as identity primary key,
  session_id uuid not null,
  kind text not null,
  event text not null,
  at timestamptz not null default now(),
  data jsonb not null default '{}',
  xid xid8 not null default pg_current_xact_id()
);
create index session_events_session on lull.session_events (session_id, id);
create index session_events_at on lull.session_events (at, id);

create table lull.tombstones (
  session_id uuid primary key,
  owner_id uuid,
  owner_token_hash bytea,
  purged_at timestamptz not null default now()
);

-- Seed 004's user session: typed data under a namespace and a user.
create table lull.user_sessions (
  namespace text not null,
  user_id text not null,
  data jsonb not null default '{}',
  version integer not null default 1,
  updated_at timestamptz not null default now(),
  expires_at timestamptz,
  primary key (namespace, user_id)
);
create index user_sessions_updated_at on lull.user_sessions (updated_at, namespace, user_id);
