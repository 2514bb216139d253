-- Core: the archive. What a batch took stands in pages (lull.archive_pages), its roots in lull.archive_keys.
--
--   a batch (cleanup/compile.sql) → restore (core/restore.sql)   back, exactly as it was
--                                 → purge_pages                  gone for good: bytes queued, tombstones left
--
-- Lock order: keys, sorted; then their pages; then the content is read. What becomes of a page's rows is decided by the
-- keys that were locked: a row whose root's key has left its page counts as gone.

-- The rows of a page, of some roots or all, in the page's order: table, columns, root and the values' text forms.
-- `keys`: the entry updates rows that these columns find (see core/restore.sql).
create or replace function lull.page_rows(p_content json, p_roots integer[] default null)
returns table (tab text, columns text[], keys text[], root integer, cells text[])
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select e.tab, e.columns, e.keys, c.texts[1]::integer, c.texts[2:]
  from lull.page_entries(p_content) e
  cross join lateral json_array_elements(e.rows) with ordinality r (row, m)
  cross join lateral (  -- `offset 0`: a row is parsed once
    select array(select json_array_elements_text(r.row)) as texts offset 0) c
  where p_roots is null or c.texts[1]::integer in (select unnest(p_roots))
  order by e.n, r.m;
$$;

-- The entries of a page: the rows of one table each.
create or replace function lull.page_entries(p_content json)
returns table (n bigint, tab text, columns text[], keys text[], rows json)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select x.n, x."table", array(select json_array_elements_text(x.columns)),
    case when x.keys is not null then array(select json_array_elements_text(x.keys)) end, x.rows
  from rows from (
    json_to_recordset(p_content) as ("table" text, columns json, keys json, rows json)
  ) with ordinality x ("table", columns, keys, rows, n);
$$;

-- Queue the bytes of deleted lull.session_files documents for removal, not before their upload URL has expired.
create or replace function lull.queue_file_removals(p_files jsonb[])
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_queued integer;
begin
  insert into lull.file_removals (bucket, path, not_before)
  select f ->> 'bucket', f ->> 'path', greatest(now(), (f ->> 'upload_expires_at')::timestamptz)
  from unnest(p_files) f
  on conflict (bucket, path) do nothing;
  get diagnostics v_queued = row_count;
  return v_queued;
end
$$;

-- End the possibility of a restore of everything in pages that the caller has locked: in its transaction queue the
-- bytes, leave a tombstone for each session, append `purged` events, and take the keys away. The caller deletes the
-- pages. Locks the keys without waiting: a restore that has them comes wholly before. Returns how many keys there were.
create or replace function lull.purge_pages(p_pages bigint[])
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_sessions jsonb[];
  v_purged integer;
begin
  perform 1 from lull.archive_keys where page = any (p_pages) order by target, key, page for update nowait;
  with gone as (
    delete from lull.archive_keys where page = any (p_pages) returning *
  ), page as (
    select p.content, p.target, array(select g.root from gone g where g.page = p.id) as roots
    from lull.archive_pages p where p.id = any (p_pages)
  ), kept as materialized (
    select p.target, r.tab, r.columns, r.cells
    from page p cross join lateral lull.page_rows(p.content, p.roots) r
    where r.tab in ('lull.session_files', 'lull.sessions') and r.keys is null
  ), queued as (
    insert into lull.file_removals (bucket, path, not_before)
    select k.cells[array_position(k.columns, 'bucket')], k.cells[array_position(k.columns, 'path')],
      greatest(now(), k.cells[array_position(k.columns, 'upload_expires_at')]::timestamptz)
    from kept k where k.tab = 'lull.session_files'
    on conflict (bucket, path) do nothing
  ), left_behind as (
    insert into lull.key_tombstones (target, key, owner)
    select g.target, g.key, min(g.owner::text)::uuid from gone g
    where g.target <> 'lull.sessions' and exists (
      select 1 from lull.targets t where t.name = g.target and to_jsonb(t) ->> 'kind' is not null)
    group by g.target, g.key
    on conflict (target, key) do update set owner = excluded.owner, purged_at = now()
  )
  select (select count(*) from gone), (
    select coalesce(array_agg(jsonb_build_object(
      'id', k.cells[array_position(k.columns, 'id')], 'kind', k.cells[array_position(k.columns, 'kind')],
      'status', k.cells[array_position(k.columns, 'status')],
      'owner_id', k.cells[array_position(k.columns, 'owner_id')],
      'owner_token_hash', k.cells[array_position(k.columns, 'owner_token_hash')])), '{}')
    from kept k where k.tab = 'lull.sessions' and k.target = 'lull.sessions')
  into v_purged, v_sessions;
  perform lull.leave_tombstones(v_sessions);
  perform lull.append_events(v_sessions, 'purged', '{}');
  return v_purged;
end
$$;

-- Leave a tombstone for each deleted lull.sessions document, so that its owner can be told 410 instead of 404.
create or replace function lull.leave_tombstones(p_sessions jsonb[])
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into lull.tombstones (session_id, owner_id, owner_token_hash)
  select (s ->> 'id')::uuid, (s ->> 'owner_id')::uuid, (s ->> 'owner_token_hash')::bytea
  from unnest(p_sessions) s
  on conflict (session_id) do nothing;
$$;

-- Whether a key was purged, and the caller owned it: 410, not 404.
create or replace function lull.purged_for(p_target text, p_key text, p_caller jsonb)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case p_target
    when 'lull.sessions' then exists (
      select 1 from lull.tombstones t
      where t.session_id = p_key::uuid and lull.is_owner(t.owner_id, t.owner_token_hash, p_caller))
    else exists (
      select 1 from lull.key_tombstones t
      where t.target = p_target and t.key = p_key and lull.is_owner(t.owner, null, p_caller)) end;
$$;

-- The pages that hold a key of the caller's, oldest first. An owner is named with the key; the hash of an anonymous
-- owner's token is in the page. A row of lull.sessions beside a team's row is its companion.
create or replace function lull.archived_pages(p_target text, p_key text, p_caller jsonb)
returns setof bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select k.page
  from lull.archive_keys k
  join lull.archive_pages p on p.id = k.page
  where k.target = p_target and k.key = p_key and (
    lull.is_owner(k.owner, null, p_caller)
    or k.owner is null and p_caller ->> 'token_hash' is not null and exists (
      select 1
      from lull.archive_pages s
      join lull.archive_keys o on o.page = s.id and o.target = p_target and o.key = p_key
      cross join lateral lull.page_rows(s.content, array[o.root]) r
      where s.batch = p.batch and r.tab = 'lull.sessions' and r.keys is null
        and lull.is_owner(null, r.cells[array_position(r.columns, 'owner_token_hash')]::bytea, p_caller)))
  order by k.page;
$$;

-- Whether the archive holds a row of the caller's under this key.
create or replace function lull.archived_for(p_target text, p_key text, p_caller jsonb)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (select 1 from lull.archived_pages(p_target, p_key, p_caller))
    or exists (
      select 1 from lull.archive a
      left join lull.targets g on g.name = a.target
      where a.target = p_target and a.key = p_key and lull.is_owner(
        (a.row ->> case a.target when 'lull.sessions' then 'owner_id' else to_jsonb(g) ->> 'owner_column' end)::uuid,
        case a.target when 'lull.sessions' then (a.row ->> 'owner_token_hash')::bytea end, p_caller));
$$;

-- After a file's row was deleted otherwise than by a cleanup: queue its bytes. A session deleted by hand would leave
-- them behind for ever.
create or replace function lull.queue_deleted_file()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform lull.queue_file_removals(array[to_jsonb(old)]);
  return null;
end
$$;

select lull.replace_trigger('queue_deleted_file AFTER DELETE ON lull.session_files FOR EACH ROW '
  'WHEN ((current_setting(''lull.cleaning''::text, true) IS DISTINCT FROM ''on''::text)) '
  'EXECUTE FUNCTION lull.queue_deleted_file()');
