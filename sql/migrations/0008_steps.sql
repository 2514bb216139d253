-- A run that is cut into steps, one transaction each (sql/functions/cleanup_steps.sql): what it has to remember.

-- How many rows the next batch takes, and of how many rows behind the cursor one made a batch fail. A runner outside
-- the database keeps these in its own memory.
alter table lull.cleanup_run_policies
  add column batch_size integer,
  add column suspects integer not null default 0,
  add constraint cleanup_run_policies_batch_size_positive check (batch_size > 0),
  add constraint cleanup_run_policies_suspects_not_negative check (suspects >= 0);

-- What the step in progress is trying, 0 when it is through. A sequence, because setval() is not undone when the step
-- is cancelled: that is how the next one knows.
create sequence lull.step_mark as bigint minvalue 0 start with 0;
