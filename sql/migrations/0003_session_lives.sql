-- The front end's side of sessions: tokens that can be repeated, idempotent creation, a caller's own list, and the
-- tables of a team that are tied in.

alter table lull.sessions add column token_rotation integer not null default 0;

-- A caller's own sessions, newest first.
create index sessions_owner on lull.sessions (owner_id, created_at desc, id desc) where owner_id is not null;
create index sessions_owner_token on lull.sessions (owner_token_hash) where owner_token_hash is not null;

-- A key's first answer, repeated for 24 hours. Inserted first in the creating transaction, so that a second request
-- with the key waits for the first one's outcome.
create table lull.idempotency_keys (
  scope text not null,
  key text not null,
  request_hash bytea not null,
  session_id uuid not null,
  answer jsonb,
  created_at timestamptz not null default now(),
  primary key (scope, key)
);
create index idempotency_keys_created_at on lull.idempotency_keys (created_at, scope, key);
insert into lull.targets (name, key_columns, builtin) values ('lull.idempotency_keys', '{scope,key}', true);

-- A team's own session tables (lull.adopt_sessions): each of their rows has its row in lull.sessions.
create table lull.session_tables (
  name text primary key,
  kind text not null,
  adopted_at timestamptz not null default now()
);
