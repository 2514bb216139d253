-- Games: commands, the processes that own games, and keys that are unique among open games.
--
--   instances ──(incarnation)──▶ sessions     a start of a process; its row is the lease of all games that name it
--   displacements                             games that were taken from an instance while its lease ran
--   session_commands                          what was applied, so that a repetition is answered and not applied again
--
-- None of these tables has a foreign key: a game goes and comes back without them, and their policies prune them.

alter table lull.sessions
  add column guild_id text,
  add column key_exempt boolean not null default false,
  add column incarnation bigint,
  add column fence bigint not null default 0,
  add column restarted_at timestamptz[] not null default '{}',
  add column recoveries integer not null default 0,
  add constraint sessions_fence_not_negative check (fence >= 0),
  add constraint sessions_recoveries_not_negative check (recoveries >= 0),
  set (fillfactor = 85);
comment on column lull.sessions.commanded_at is 'The last command. In no index: a command''s update stays HOT.';
comment on column lull.sessions.key_exempt is 'Open already when keys became unique; its key may be another game''s, too.';
comment on column lull.sessions.incarnation is 'The start of a process (lull.instances) that owns the game.';
comment on column lull.sessions.fence is 'Grows with each change of the owner; commands carry it.';
comment on column lull.sessions.instance_id is 'The name of the owning process, for people.';
comment on column lull.sessions.lease_until is 'Of release 0.1.0; the lease is the row in lull.instances.';
comment on column lull.sessions.restarts is 'Of release 0.1.0; now restarted_at.';

-- Open games that share a key go on, all but the newest without its protection.
update lull.sessions s set key_exempt = true
from (
  select id, row_number() over (partition by external_key order by created_at desc, id desc) as n
  from lull.sessions
  where kind = 'game' and status <> 'ended' and external_key is not null
) d
where d.id = s.id and d.n > 1;

-- No index here contains a clock that a command moves.
create unique index sessions_game_key on lull.sessions (external_key)
  where kind = 'game' and status <> 'ended' and not key_exempt;
create index sessions_external_key on lull.sessions (external_key, created_at desc, id desc)
  where external_key is not null;
create index sessions_open_games_of_guild on lull.sessions (guild_id, id)
  where kind = 'game' and status <> 'ended';
create index sessions_owned_games on lull.sessions (incarnation, created_at, id)
  where kind = 'game' and status <> 'ended' and incarnation is not null;

-- A start of a process. The row is the lease of all its games: renewing it is one update of one row, which stays HOT.
create table lull.instances (
  incarnation bigint generated always as identity primary key,
  id text not null,
  lease_seconds integer not null,
  lease_until timestamptz not null,
  opened_at timestamptz not null default now(),
  closed_at timestamptz,
  constraint instances_lease_positive check (lease_seconds > 0)
) with (fillfactor = 50);
create unique index instances_open on lull.instances (id) where closed_at is null;
create index instances_opened_at on lull.instances (opened_at, incarnation);

-- A game that was claimed by force: its former owner is told by the next renewal.
create table lull.displacements (
  incarnation bigint not null,
  session_id uuid not null,
  fence bigint not null,
  at timestamptz not null default now(),
  primary key (incarnation, session_id, fence)
);
create index displacements_at on lull.displacements (at, incarnation, session_id, fence);

-- A command that was applied, and the version that it made.
create table lull.session_commands (
  session_id uuid not null,
  command_id text not null,
  request_hash bytea not null,
  version integer not null,
  at timestamptz not null default now(),
  primary key (session_id, command_id)
);
create index session_commands_at on lull.session_commands (at, session_id, command_id);

insert into lull.targets (name, key_columns, builtin, unless) values
  ('lull.session_commands', '{session_id,command_id}', true, null),
  ('lull.displacements', '{incarnation,session_id,fence}', true, null),
  ('lull.instances', '{incarnation}', true, $$exists (
    select 1 from lull.sessions s
    where s.incarnation = t.incarnation and s.kind = 'game' and s.status <> 'ended')$$);
