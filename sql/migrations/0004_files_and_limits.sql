-- Files that are attached before the first message, and limits against abuse.

-- The name as it was given (for people; the path holds a safe one), and the type that was announced.
alter table lull.session_files
  add column name text,
  add column content_type text,
  add constraint session_files_uploaded_at_when_uploaded check (state = 'uploaded' or uploaded_at is null);

-- What the policy expired-uploads reads: upload URLs that nobody used in time.
create index session_files_pending on lull.session_files (upload_expires_at, id) where state = 'pending';
insert into lull.targets (name, key_columns, builtin) values ('lull.session_files', '{id}', true);

-- Creations within an hour, per user and per client address (as a keyed hash). A row's window begins with its first
-- creation.
create table lull.rate_counters (
  key text primary key,
  window_start timestamptz not null,
  count integer not null,
  constraint rate_counters_count_not_negative check (count >= 0)
);
create index rate_counters_window_start on lull.rate_counters (window_start, key);
insert into lull.targets (name, key_columns, builtin) values ('lull.rate_counters', '{key}', true);

-- Where an anonymous session came from, as a keyed hash: its creator has no other name by which to count what they
-- opened. One partial index per count: small, because what is open is cleaned up or ended.
alter table lull.sessions add column client_hash bytea;
create index sessions_open_drafts_of_owner on lull.sessions (owner_id, last_activity_at)
  where status = 'draft' and owner_id is not null;
create index sessions_open_drafts_of_client on lull.sessions (client_hash, last_activity_at)
  where status = 'draft' and client_hash is not null;
create index sessions_open_games_of_owner on lull.sessions (owner_id, last_activity_at)
  where kind = 'game' and status <> 'ended' and owner_id is not null;
create index sessions_open_games_of_client on lull.sessions (client_hash, last_activity_at)
  where kind = 'game' and status <> 'ended' and client_hash is not null;

-- Creating a session takes its limits along now; one signature per name.
do $$
begin
  if to_regprocedure('public.lull_create_session(uuid, text, text, text, text, text, jsonb, uuid, text, jsonb)')
    is not null then
    drop function public.lull_create_session(uuid, text, text, text, text, text, jsonb, uuid, text, jsonb);
  end if;
end
$$;
delete from lull.objects
where identity = 'public.lull_create_session(uuid,text,text,text,text,text,jsonb,uuid,text,jsonb)';
