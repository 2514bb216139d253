-- The cleanup: what may go (targets, policies), what a run did (cleanup_runs, cleanup_run_policies), what can come
-- back (archive), which bytes are still to be removed (file_removals), and the operator's switches.

-- The allow-list: a policy can act on these tables and on no other. lull.adopt() adds a team's own table.
create table lull.targets (
  name text primary key,
  key_columns text[] not null,
  hold_column text,
  builtin boolean not null default false,
  adopted_at timestamptz not null default now(),
  constraint targets_have_a_key check (cardinality(key_columns) > 0)
);
insert into lull.targets (name, key_columns, hold_column, builtin) values
  ('lull.sessions', '{id}', 'hold', true),
  ('lull.user_sessions', '{namespace,user_id}', null, true),
  ('lull.archive', '{id}', null, true),
  ('lull.cleanup_runs', '{id}', null, true),
  ('lull.session_events', '{id}', null, true);

-- The effective policies, written by each migration and by each run's begin from policies.toml and the environment.
create table lull.policies (
  name text primary key,
  position integer not null,
  target text not null references lull.targets (name),
  clock text not null,
  equals jsonb not null default '{}',
  nulls text[] not null default '{}',
  age interval not null,
  archive boolean not null,
  restore_window interval not null,
  max_rows bigint not null,
  growth_factor numeric,
  growth_floor bigint not null,
  max_percent numeric,
  max_cascaded bigint not null,
  warn_before interval,
  reason text not null,
  constraint policies_age_not_negative check (age >= interval '0'),
  constraint policies_window_not_negative check (restore_window >= interval '0'),
  constraint policies_limits_positive check (
    max_rows > 0 and max_cascaded >= 0 and growth_floor >= 0 and growth_factor > 0
    and max_percent > 0 and max_percent <= 100),
  constraint policies_equals_is_object check (jsonb_typeof(equals) = 'object')
);

-- A run, and the lease row: at most one is running, and only the holder of its token may act for it.
create table lull.cleanup_runs (
  id uuid primary key default gen_random_uuid(),
  token uuid not null default gen_random_uuid(),
  status text not null default 'running',
  caller text not null,
  at timestamptz not null,
  started_at timestamptz not null default clock_timestamp(),
  lease_seconds integer not null,
  lease_until timestamptz not null,
  finished_at timestamptz,
  files jsonb not null default '{}',
  constraint cleanup_runs_status_known check (
    status in ('running', 'completed', 'partial', 'stopped', 'failed', 'abandoned')),
  constraint cleanup_runs_finished_when_not_running check ((status = 'running') = (finished_at is null))
);
create unique index cleanup_runs_one_at_a_time on lull.cleanup_runs ((true)) where status = 'running';
create index cleanup_runs_started_at on lull.cleanup_runs (started_at, id);

-- A policy within a run: the definition and cutoff frozen when it was opened, the breaker's allowance, the cursor
-- (the last row locked) and the counts, which every batch adds to in its own transaction.
create table lull.cleanup_run_policies (
  run_id uuid not null references lull.cleanup_runs (id) on delete cascade,
  policy text not null,
  position integer not null,
  definition jsonb not null,
  cutoff timestamptz,
  would bigint,
  capped boolean not null default false,
  would_cascade jsonb not null default '{}',
  would_files bigint,
  allowed bigint,
  did bigint not null default 0,
  cascaded bigint not null default 0,
  files bigint not null default 0,
  batches integer not null default 0,
  ms double precision not null default 0,
  outcome text not null default 'pending',
  stop_reason text,
  error text,
  skipped jsonb not null default '[]',
  skipped_count integer not null default 0,
  busy_count integer not null default 0,
  cursor_clock timestamptz,
  cursor_key text[],
  completed_at timestamptz,
  primary key (run_id, policy),
  constraint cleanup_run_policies_outcome_known check (
    outcome in ('pending', 'open', 'completed', 'partial', 'stopped', 'failed'))
);
create index cleanup_run_policies_completed on lull.cleanup_run_policies (policy, completed_at);

-- Deleted, but restorable. `row` and each of `children` hold a column's text form (null for SQL null), so that every
-- type comes back exactly: a JSON null stays distinct from an SQL null, an array keeps its bounds.
create table lull.archive (
  id bigint generated always as identity primary key,
  run_id uuid not null,
  policy text not null,
  target text not null,
  key text not null,
  "row" jsonb not null,
  children jsonb not null default '[]',
  archived_at timestamptz not null default now(),
  purge_after timestamptz,
  constraint archive_key_once unique (target, key)
);
create index archive_purge_after on lull.archive (purge_after, id);
create index archive_run on lull.archive (run_id);

-- The outbox of bytes to remove through the Storage API. A row is due only after its archive row was purged.
create table lull.file_removals (
  id bigint generated always as identity primary key,
  bucket text not null,
  path text not null,
  not_before timestamptz not null default now(),
  attempts integer not null default 0,
  last_error text,
  claimed_by uuid,
  dead_at timestamptz,
  created_at timestamptz not null default now(),
  constraint file_removals_path_once unique (bucket, path)
);
create index file_removals_due on lull.file_removals (not_before, id) where dead_at is null;

-- Pause without a deploy: `cleanup` set to on makes every run answer "paused since".
create table lull.switches (
  name text primary key,
  is_on boolean not null,
  reason text,
  changed_at timestamptz not null default now()
);
