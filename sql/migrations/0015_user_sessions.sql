-- User sessions: the version is text that the writer draws, so that a stale write after a delete and a create is refused.

alter table lull.user_sessions alter column version drop default;
alter table lull.user_sessions alter column version type text using version::text;

-- What the policy expired-user-sessions reads.
create index user_sessions_expires_at on lull.user_sessions (expires_at, namespace, user_id)
  where expires_at is not null;
