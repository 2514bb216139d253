-- Numbers by day: what the event log says, counted once, and the sizes of the tables.

-- How far the log was counted is a row of lull.event_readers (`rollup`): all events of transactions below `xid`.
--   first_day   days before it were counted from a log that is not there any more, and stay as they are
--   time_zone   whose days these are
--   restart     the log was restored from another cluster's dump: count it anew
alter table lull.event_readers
  add column first_day date,
  add column time_zone text not null default 'UTC',
  add column restart boolean not null default false;

-- `day` is that of the event, or of the session's creation for what became of a draft (sql/functions/insight/cells.sql
-- says what each measure counts). `bucket` is that of a histogram, `label` a name such as a library item's.
create table lull.daily_rollups (
  day date not null,
  kind text not null,
  measure text not null,
  label text not null default '',
  bucket smallint not null default 0,
  n bigint not null,
  total double precision not null default 0,
  primary key (day, kind, measure, label, bucket)
);

-- How many sessions there were when a run last counted all of them: at most once an hour.
create table lull.session_counts (
  kind text not null,
  status text not null,
  n bigint not null,
  counted_at timestamptz not null,
  primary key (kind, status)
);

-- The size of each of Lull's tables and of the adopted ones, as of the last count of the day. `rows` and `dead` are
-- Postgres' own estimates.
create table lull.table_sizes (
  day date not null,
  name text not null,
  bytes bigint not null,
  rows bigint not null,
  dead bigint not null,
  primary key (day, name)
);

-- Gaps: how long sessions were idle, from an hour on, and what ended each. Roll-ups of the event log, too.
--   before   the longest earlier gap of the session; reached: this one; both as edges passed (lull.idle_edge)
--   outcome  `returned`, or `censored`: a run deleted the session, and what would have followed is not known
create table lull.idle_gaps (
  kind text not null,
  status text not null,
  day date not null,
  before smallint not null,
  reached smallint not null,
  outcome text not null,
  n bigint not null,
  primary key (day, kind, status, before, reached, outcome)
);
create index session_events_returned on lull.session_events (session_id, id) where event = 'returned';
