-- Two batches of one policy may be in flight, each in a lane of its own: a cursor (the last row it locked), and whether
-- it found nothing more. What a run's self-tuning did is kept beside its counts.

create table lull.cleanup_lanes (
  run_id uuid not null,
  policy text not null,
  lane integer not null,
  cursor_clock timestamptz,
  cursor_key text[],
  is_done boolean not null default false,
  primary key (run_id, policy, lane),
  foreign key (run_id, policy) references lull.cleanup_run_policies (run_id, policy) on delete cascade,
  constraint cleanup_lanes_few check (lane between 1 and 4)
);
comment on column lull.cleanup_run_policies.cursor_clock is 'Of release 0.1.0; now in lull.cleanup_lanes.';

alter table lull.cleanup_run_policies add column pacing jsonb not null default '{}';
