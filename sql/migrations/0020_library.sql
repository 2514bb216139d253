-- What outlives a session: the library (documents and files by namespace and key), and feedback.
--
--   library_items ──< library_versions   (cascade; the bytes of a path are removed when its last version goes)
--   sessions ──< session_items           (cascade; which versions a session used: goes, and comes back, with it)
--   session_feedback                     (no foreign key: it outlives the session)
--
-- Namespaces and keys compare bytewise: a page of keys and the order of locks are the same under any locale.

-- `version` is the current one. An item with version 0 waits for its first file; it counts as deleted, so that the
-- policy deleted-items takes it when that file never comes.
create table lull.library_items (
  namespace text collate "C" not null,
  key text collate "C" not null,
  version integer not null default 0,
  deleted_at timestamptz,
  primary key (namespace, key),
  constraint library_items_version_not_negative check (version >= 0),
  constraint library_items_without_a_version_deleted check (version > 0 or deleted_at is not null)
);
create index library_items_live on lull.library_items (namespace, key) where deleted_at is null;
create index library_items_deleted_at on lull.library_items (deleted_at, namespace, key)
  where deleted_at is not null;

-- A document or a file. A pending version is a file whose bytes were announced: it has the number after the item's
-- current one, and goes with any other change of the item. A version that brings back a file shares its path.
create table lull.library_versions (
  namespace text collate "C" not null,
  key text collate "C" not null,
  version integer not null,
  document jsonb,
  size bigint not null,
  file_id uuid,
  bucket text,
  path text,
  name text,
  content_type text,
  sha256 text,
  state text not null default 'uploaded',
  upload_expires_at timestamptz,
  written_at timestamptz not null default now(),
  restored_from integer,
  primary key (namespace, key, version),
  foreign key (namespace, key) references lull.library_items (namespace, key) on delete cascade,
  constraint library_versions_version_positive check (version > 0),
  constraint library_versions_size_not_negative check (size >= 0),
  constraint library_versions_state_known check (state in ('pending', 'uploaded')),
  constraint library_versions_document_is_object check (jsonb_typeof(document) = 'object'),
  constraint library_versions_document_or_file check (
    num_nulls(file_id, bucket, path, name, content_type, sha256) = case when document is null then 0 else 6 end),
  constraint library_versions_pending_is_file check (state = 'uploaded' or document is null)
);
create index library_versions_path on lull.library_versions (bucket, path) where path is not null;

create table lull.session_items (
  session_id uuid not null references lull.sessions (id) on delete cascade,
  namespace text collate "C" not null,
  key text collate "C" not null,
  version integer not null,
  used_at timestamptz not null default now(),
  primary key (session_id, namespace, key, version)
);
create index session_items_item on lull.session_items (namespace, key);

-- `target` is the adopted table that the session is in; null: lull.sessions. The author is a hash: the same author's
-- next feedback on the session replaces this one.
create table lull.session_feedback (
  id uuid primary key default gen_random_uuid(),
  target text,
  session_id uuid not null,
  kind text not null,
  mode text,
  guild_id text,
  author_hash bytea not null,
  user_id uuid,
  score integer not null,
  about text,
  comment text,
  at timestamptz not null default now(),
  constraint session_feedback_one_an_author unique (session_id, author_hash),
  constraint session_feedback_score_known check (score between 1 and 5),
  constraint session_feedback_lengths check (length(about) <= 100 and length(comment) <= 2000)
);
create index session_feedback_at on lull.session_feedback (at, id);
create index session_feedback_user on lull.session_feedback (user_id) where user_id is not null;

insert into lull.targets (name, key_columns, builtin) values
  ('lull.library_items', '{namespace,key}', true),
  ('lull.session_feedback', '{id}', true);
