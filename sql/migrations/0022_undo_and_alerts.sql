-- What an operator undoes, holds and pauses over HTTP, what shadow runs would have taken, and what alerts are about.

-- Why the rows under a key could not come back; only in remainders.
alter table lull.archive_keys add column reason text;

-- The restores: one row for each batch, remainder or key that came back. Nothing is updated, so that late activations
-- do not wait for one another. Each run's begin adds rows of the last quarter to lull.counts, and deletes them.
create table lull.restores (
  id bigint generated always as identity primary key,
  run_id uuid not null,
  policy text not null,
  roots integer not null,
  rows integer not null,
  restored_at timestamptz not null default now()
);
create index restores_run on lull.restores (run_id);

-- A pause that ends by itself, and the newest call of a scheduler that found it. `cleanup:<policy>` pauses one policy.
alter table lull.switches
  add column until timestamptz,
  add column called_at timestamptz;

-- A run that only watches (`shadow`), and a policy within a run that was paused or only watched. The oldest stale row
-- when the policy was opened.
alter table lull.cleanup_runs
  add column mode text not null default 'run',
  add constraint cleanup_runs_mode_known check (mode in ('run', 'shadow'));
alter table lull.cleanup_run_policies
  add column would_oldest timestamptz,
  drop constraint cleanup_run_policies_outcome_known,
  add constraint cleanup_run_policies_outcome_known check (
    outcome in ('pending', 'open', 'completed', 'partial', 'stopped', 'failed', 'paused', 'shadow'));

-- The rows that a shadow run would have been the first to delete, and when they were used after that.
create table lull.shadow_rows (
  run_id uuid not null,
  policy text not null,
  target text not null,
  key text not null,
  clock timestamptz not null,
  noted_at timestamptz not null default now(),
  returned_at timestamptz,
  primary key (target, key, run_id)
);
create index shadow_rows_run on lull.shadow_rows (run_id, policy);
create index shadow_rows_waiting on lull.shadow_rows (target, policy, noted_at) where returned_at is null;

-- The operation was replaced before any release had it.
do $$
begin
  if to_regprocedure('public.lull_find_archived(uuid, text, text, integer, bigint)') is not null then
    drop function public.lull_find_archived(uuid, text, text, integer, bigint);
  end if;
end
$$;
delete from lull.objects where identity in ('lull_find_archived(uuid,text,text,integer,bigint)',
  'public.lull_find_archived(uuid,text,text,integer,bigint)');

-- Whether a run was one of all policies. What was deleted below a policy's rows, by table; the stale rows that the
-- policy left when its run ended, and the oldest of them.
alter table lull.cleanup_runs add column whole boolean not null default true;
alter table lull.cleanup_run_policies
  add column below_counts jsonb not null default '{}',
  add column backlog bigint,
  add column backlog_oldest timestamptz;
create index cleanup_run_policies_newest on lull.cleanup_run_policies (policy, completed_at desc)
  where outcome not in ('pending', 'open');

-- The oldest stale row of a policy that no run has included, as of the newest begin.
alter table lull.policies_known add column oldest timestamptz;

-- The request that made the change, where the caller of the operation named one.
alter table lull.session_events add column request_id text;

-- When an operator said that an event that was given up needs no one any more.
alter table lull.deliveries add column acknowledged_at timestamptz;
create index deliveries_dead_letters on lull.deliveries (settled_at) where state = 'dead' and acknowledged_at is null;

-- The alerts that hold, or that were over and are still to be told. `policy` is empty for a condition of the whole.
--   told_at        when the webhook took it last;  claimed_until   until when a process is telling it
create table lull.alert_states (
  name text not null,
  policy text not null default '',
  since timestamptz not null,
  sentence text not null,
  told_at timestamptz,
  cleared_at timestamptz,
  claimed_until timestamptz,
  primary key (name, policy)
);

-- Totals since the installation, which pruning runs never lowers: deleted rows by policy and table, restored rows by
-- policy, runs by status.
create table lull.counts (
  metric text not null,
  policy text not null default '',
  label text not null default '',
  n bigint not null,
  primary key (metric, policy, label)
);
