-- Core: erasing a deleted user: what Lull holds of them, live and archived, with the bytes of their files.
--
--   trigger on auth.users (the team's) ─▶ lull.queue_erasure() ─▶ lull.erasures ─▶ next run ─▶ lull.erase_owner()

-- Erase one user. Their sessions go without a tombstone, with the rows below them; rows of participants and notes of
-- used items that carry their id go from other sessions too; their library and their feedback go; what is archived for
-- them is purged; bytes are queued for removal. What a team's own tables hold is the team's to delete. Locks the
-- archive's keys in sorted order, then their pages, then the library. Returns how many: {"sessions", "archived",
-- "participants", "user_sessions", "files", "items", "feedback"}.
create or replace function lull.erase_owner(p_user uuid)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_ids uuid[];
  v_archived jsonb;
  v_files bigint;
  v_participants bigint;
  v_user_sessions bigint;
  v_items bigint;
  v_feedback bigint;
begin
  v_ids := array(select id from lull.sessions where owner_id = p_user order by id for update);
  v_archived := lull.erase_archived(p_user);
  select count(*) into v_files from lull.session_files where session_id = any (v_ids);
  delete from lull.sessions where id = any (v_ids);  -- its trigger queues the bytes of files
  delete from lull.session_participants where user_id = p_user;
  get diagnostics v_participants = row_count;
  delete from lull.user_sessions where user_id = p_user::text;
  get diagnostics v_user_sessions = row_count;
  v_items := lull.erase_library(p_user);
  delete from lull.session_feedback where user_id = p_user;
  get diagnostics v_feedback = row_count;
  delete from lull.tombstones where owner_id = p_user;
  delete from lull.idempotency_keys where scope = 'user:' || p_user or session_id = any (v_ids);
  delete from lull.rate_counters where key in ('user:' || p_user, 'feedback:user:' || p_user);
  delete from lull.holds where target = 'lull.sessions' and key = any (v_ids::text[]);
  -- The log keeps that something happened, and not the words in it.
  update lull.session_events set data = data - 'reason' where session_id = any (v_ids) and data ? 'reason';
  return jsonb_build_object('sessions', cardinality(v_ids), 'archived', v_archived -> 'keys',
    'participants', v_participants, 'user_sessions', v_user_sessions,
    'files', v_files + (v_archived ->> 'files')::bigint, 'items', v_items, 'feedback', v_feedback);
end
$$;

-- Erase a user's namespace of the library, and the notes of sessions that used something of it. A trigger queues the
-- bytes of files. Locks the namespace's counter, then the items in key order. Returns how many items.
create or replace function lull.erase_library(p_user uuid)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_namespace text := 'user:' || p_user;
  v_items bigint;
begin
  perform lull.lock_counters(array['library:' || v_namespace]);
  perform 1 from lull.library_items where namespace = v_namespace order by key for update;
  delete from lull.library_items where namespace = v_namespace;
  get diagnostics v_items = row_count;
  delete from lull.session_items where namespace = v_namespace;
  delete from lull.rate_counters where key = 'library:' || v_namespace;
  return v_items;
end
$$;

-- Purge what is archived for a user, and leave nothing that names them: their keys, and of the pages only what no other
-- key needs. Locks the keys in sorted order, then their pages. Returns {"keys", "files"}.
create or replace function lull.erase_archived(p_user uuid)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_keys bigint;
  v_pages bigint[];
  v_files bigint;
begin
  perform lull.move_older_rows(array(
    select a.id from lull.archive a left join lull.targets g on g.name = a.target
    where a.row ->> case a.target when 'lull.sessions' then 'owner_id' else g.owner_column end = p_user::text
    order by a.id));
  perform 1 from lull.archive_keys where owner = p_user order by target, key, page for update;
  v_pages := array(select distinct page from lull.archive_keys where owner = p_user order by 1);
  perform 1 from lull.archive_pages where id = any (v_pages) order by id for update;
  with gone as (
    delete from lull.archive_keys where owner = p_user returning page, root
  ), queued as (
    insert into lull.file_removals (bucket, path, not_before)
    select r.cells[array_position(r.columns, 'bucket')], r.cells[array_position(r.columns, 'path')],
      greatest(now(), r.cells[array_position(r.columns, 'upload_expires_at')]::timestamptz)
    from lull.archive_pages p
    cross join lateral lull.page_rows(p.content, array(select g.root from gone g where g.page = p.id)) r
    where p.id = any (v_pages) and r.tab = 'lull.session_files' and r.keys is null
    on conflict (bucket, path) do nothing
    returning 1
  )
  select (select count(*) from gone), (select count(*) from queued) into v_keys, v_files;
  delete from lull.archive_pages p
  where p.id = any (v_pages) and not exists (select 1 from lull.archive_keys k where k.page = p.id);
  perform lull.erase_from_pages(v_pages, p_user);
  delete from lull.key_tombstones where owner = p_user;
  return jsonb_build_object('keys', v_keys, 'files', v_files);
end
$$;

-- Rewrite pages that other keys still need, without the rows of roots that have no key any more, and without the rows
-- of participants, and the notes of used items, that carry the user's id. The caller has locked them.
create or replace function lull.erase_from_pages(p_pages bigint[], p_user uuid)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.archive_pages p
  set content = x.content, rows = x.rows
  from (
    select q.id, json_agg(json_build_object('table', e.tab, 'columns', e.columns, 'keys', e.keys, 'rows', k.rows)
        order by e.n) as content, sum(json_array_length(k.rows)) as rows
    from lull.archive_pages q
    cross join lateral lull.page_entries(q.content) e
    cross join lateral (
      select coalesce(json_agg(r order by n), '[]') as rows
      from json_array_elements(e.rows) with ordinality u (r, n)
      where exists (select 1 from lull.archive_keys a where a.page = q.id and a.root = (r ->> 0)::integer)
        and (e.tab <> 'lull.session_participants'
          or r ->> array_position(e.columns, 'user_id') is distinct from p_user::text)
        and (e.tab <> 'lull.session_items'
          or r ->> array_position(e.columns, 'namespace') is distinct from 'user:' || p_user)
    ) k
    where q.id = any (p_pages)
    group by q.id
  ) x
  where p.id = x.id;
$$;

-- Erase the queued users, oldest first, within two seconds; one that fails stays queued with its error. Never raises.
create or replace function lull.erase_queued()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_seconds constant double precision := 2;
  v_started timestamptz := clock_timestamp();
  v_user uuid;
begin
  for v_user in
    select user_id from lull.erasures order by tried_at nulls first, queued_at for update skip locked
  loop
    exit when clock_timestamp() > v_started + make_interval(secs => c_seconds);
    begin
      perform lull.erase_owner(v_user);
      delete from lull.erasures where user_id = v_user;
    exception when others then
      update lull.erasures set tried_at = now(), last_error = sqlerrm where user_id = v_user;
      raise warning 'user % was not erased: %', v_user, sqlerrm;
    end;
  end loop;
end
$$;

-- Trigger function for auth.users (the recipe is in docs/own-tables.md): queue the deleted user's erasure. It deletes
-- nothing itself, so that deleting a user neither waits nor fails because of Lull.
create or replace function lull.queue_erasure()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into lull.erasures (user_id) values (old.id) on conflict do nothing;
  return null;
end
$$;

-- Erase a deleted user now: see lull.erase_owner. Raises when something of theirs is locked.
create or replace function public.lull_erase_owner(p_user uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '30s'
set lock_timeout = '5s'
as $$
declare
  v_server constant name := lull.require_server();
  v_erased jsonb := lull.erase_owner(p_user);
begin
  delete from lull.erasures where user_id = p_user;
  return v_erased;
end
$$;
