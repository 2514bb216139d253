-- Core: archive, restore, purge. Rows are kept as documents (core_cascade.sql), a root with everything below it.
--
--   archive_rows → restore_archived   back, exactly as it was
--                → purge_archived     gone for good: bytes queued, tombstone left, event appended

-- The documents of one table among the rows of p_target and those below them (as walk_cascade returns them).
create or replace function lull.documents_of(
  p_table text, p_target text, p_rows jsonb[], p_tables text[], p_children jsonb[])
returns jsonb[]
language sql
immutable
set search_path = ''
as $$
  select case when p_table = p_target then p_rows else '{}' end || array(
    select c.doc from unnest(p_tables, p_children) with ordinality c (tab, doc, n)
    where c.tab = p_table
    order by c.n);
$$;

-- Put rows and those below them (see walk_cascade) into the archive. An older archived row with the same key is purged first: its
-- successor is the one that somebody may want back. Returns how many rows were archived.
create or replace function lull.archive_rows(
  p_run uuid, p_policy text, p_target text, p_keys text[], p_rows jsonb[],
  p_roots integer[], p_tables text[], p_children jsonb[], p_restore_window interval)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_older bigint[];
  v_archived integer;
begin
  select array_agg(id) into v_older from lull.archive where target = p_target and key = any (p_keys);
  if v_older is not null then
    perform lull.purge_archived(v_older);
  end if;
  insert into lull.archive (run_id, policy, target, key, "row", children, purge_after)
  select p_run, p_policy, p_target, r.key, r.doc, coalesce(c.children, '[]'), now() + p_restore_window
  from unnest(p_keys, p_rows) with ordinality r (key, doc, root)
  left join (
    select c.root, jsonb_agg(
      jsonb_build_object('table', c.tab, 'rows', jsonb_build_array(c.doc)) order by c.n) as children
    from unnest(p_roots, p_tables, p_children) with ordinality c (root, tab, doc, n)
    group by c.root
  ) c on c.root = r.root;
  get diagnostics v_archived = row_count;
  if v_older is not null then
    -- A file of the older row that the newer one has too must be there when that is restored.
    delete from lull.file_removals r
    using unnest(lull.documents_of('lull.session_files', p_target, p_rows, p_tables, p_children)) d (doc)
    where r.bucket = d.doc ->> 'bucket' and r.path = d.doc ->> 'path';
  end if;
  return v_archived;
end
$$;

-- Queue the bytes of deleted lull.session_files documents for removal, not before their upload URL has expired.
create or replace function lull.queue_file_removals(p_files jsonb[])
returns integer
language plpgsql
set search_path = ''
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

-- Leave a tombstone for each deleted lull.sessions document, so that its owner can be told 410 instead of 404.
create or replace function lull.leave_tombstones(p_sessions jsonb[])
returns void
language sql
set search_path = ''
as $$
  insert into lull.tombstones (session_id, owner_id, owner_token_hash)
  select (s ->> 'id')::uuid, (s ->> 'owner_id')::uuid, (s ->> 'owner_token_hash')::bytea
  from unnest(p_sessions) s
  on conflict (session_id) do nothing;
$$;

-- End the possibility of a restore: delete archive rows, and in the same transaction queue their bytes, leave
-- tombstones and append `purged` events. Locks the archive rows, so that a restore comes wholly before or never.
create or replace function lull.purge_archived(p_ids bigint[])
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_sessions jsonb[];
  v_files jsonb[];
  v_purged integer;
begin
  with gone as (
    delete from lull.archive where id = any (p_ids) returning target, "row" as doc, children
  )
  select count(*),
    array_agg(doc) filter (where target = 'lull.sessions'),
    array(
      select f
      from gone g, jsonb_array_elements(g.children) c, jsonb_array_elements(c -> 'rows') f
      where c ->> 'table' = 'lull.session_files'
      union all
      select g.doc from gone g where g.target = 'lull.session_files')
  into v_purged, v_sessions, v_files
  from gone;
  perform lull.queue_file_removals(v_files);
  perform lull.leave_tombstones(v_sessions);
  perform lull.append_events(v_sessions, 'purged', '{}');
  return v_purged;
end
$$;

-- Insert documents into a table: the columns it has today that the documents hold, generated ones left out, identity
-- values kept. Returns how many rows were inserted; the rest met a unique constraint and were left alone.
create or replace function lull.insert_documents(p_table regclass, p_rows jsonb)
returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_columns text;
  v_values text;
  v_inserted integer;
begin
  select string_agg(format('%I', c.name), ', '), string_agg(format('(d ->> %L)::%s', c.name, c.type), ', ')
  into v_columns, v_values
  from lull.table_columns(p_table) c
  where (p_rows -> 0) ? c.name and not c.is_generated;
  execute format(
    'insert into %s (%s) overriding system value select %s from jsonb_array_elements($1) d on conflict do nothing',
    p_table, v_columns, v_values)
  using p_rows;
  get diagnostics v_inserted = row_count;
  return v_inserted;
end
$$;

-- Bring an archived row back with everything below it, exactly as it was, and take it out of the archive.
-- Returns null when the archive does not hold it, else {"restored", "children", "conflicts": [{"table", "row",
-- "reason"}]}. When the row itself cannot come back (its place is taken) nothing changes; a child that cannot is
-- reported with its whole content. Locks the archive row first.
create or replace function lull.restore_archived(p_target text, p_key text)
returns jsonb
language plpgsql
set search_path = ''
set datestyle = 'ISO'
set intervalstyle = 'postgres'
set lc_monetary = 'C'
set xmloption = 'content'
set array_nulls = on
as $$
declare
  v_archived lull.archive;
  v_reason text;
  v_children jsonb;
begin
  select * into v_archived from lull.archive where target = p_target and key = p_key for update;
  if not found then
    return null;
  end if;
  v_reason := lull.try_insert(p_target, jsonb_build_array(v_archived.row));
  if v_reason is not null then
    return jsonb_build_object('restored', false, 'children', 0, 'conflicts', jsonb_build_array(
      jsonb_build_object('table', p_target, 'row', v_archived.row, 'reason', v_reason)));
  end if;
  v_children := lull.restore_children(v_archived.children);
  delete from lull.archive where id = v_archived.id;
  if p_target = 'lull.sessions' then
    perform lull.append_event(p_key::uuid, v_archived.row ->> 'kind', 'restored',
      jsonb_build_object('run', v_archived.run_id, 'children', v_children -> 'children'));
  end if;
  return jsonb_build_object('restored', true) || v_children;
end
$$;

-- Join entries that follow one another and are of one table, so that they are inserted at once. The archive has an entry
-- for each row: that is what its insert, which runs beside live traffic, can make in one pass.
create or replace function lull.by_table(p_children jsonb)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('table', g.tab, 'rows', g.docs) order by g.first), '[]')
  from (
    select i.tab, min(i.n) as first, jsonb_agg(d.doc order by i.n, d.n) as docs
    from (
      select e ->> 'table' as tab, e -> 'rows' as docs, n,
        n - row_number() over (partition by e ->> 'table' order by n) as island
      from jsonb_array_elements(p_children) with ordinality x (e, n)
    ) i, jsonb_array_elements(i.docs) with ordinality d (doc, n)
    group by i.tab, i.island
  ) g;
$$;

-- Insert the children of an archived row. Siblings may refer to one another, so what fails is tried again as long as
-- anything succeeds, first by the table, then row by row. Returns {"children", "conflicts"} as restore_archived does.
create or replace function lull.restore_children(p_children jsonb)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_pending jsonb := lull.by_table(p_children);
  v_left jsonb;
  v_entry jsonb;
  v_reason text;
  v_inserted integer := 0;
begin
  while v_pending <> '[]' loop
    v_left := '[]';
    for v_entry in select e from jsonb_array_elements(v_pending) with ordinality x (e, n) order by n loop
      v_reason := lull.try_insert(v_entry ->> 'table', v_entry -> 'rows');
      if v_reason is null then
        v_inserted := v_inserted + jsonb_array_length(v_entry -> 'rows');
      else
        v_left := v_left || (v_entry || jsonb_build_object('reason', v_reason));
      end if;
    end loop;
    if jsonb_array_length(v_left) = jsonb_array_length(v_pending) then
      v_pending := v_left;
      exit when not exists (
        select 1 from jsonb_array_elements(v_left) e where jsonb_array_length(e -> 'rows') > 1);
      select jsonb_agg(jsonb_build_object('table', e -> 'table', 'rows', jsonb_build_array(d)) order by n, m)
      into v_left
      from jsonb_array_elements(v_left) with ordinality x (e, n),
        jsonb_array_elements(e -> 'rows') with ordinality y (d, m);
    end if;
    v_pending := v_left;
  end loop;
  return jsonb_build_object('children', v_inserted, 'conflicts', (
    select coalesce(jsonb_agg(jsonb_build_object(
      'table', e -> 'table', 'row', e -> 'rows' -> 0, 'reason', e -> 'reason')), '[]')
    from jsonb_array_elements(v_pending) e));
end
$$;

-- Insert all of the documents or none. Returns null on success, else the reason.
create or replace function lull.try_insert(p_table text, p_rows jsonb)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_reason text;
begin
  if to_regclass(p_table) is null then
    return format('the table %s is gone', p_table);
  end if;
  begin
    if lull.insert_documents(p_table::regclass, p_rows) < jsonb_array_length(p_rows) then
      raise unique_violation using message = 'a row with one of its unique values is there already';
    end if;
  exception when others then
    get stacked diagnostics v_reason = message_text;
    return v_reason;
  end;
  return null;
end
$$;

-- After a file's row was deleted otherwise than by a cleanup: queue its bytes. Whoever deletes a session by hand would
-- leave them behind for ever.
create or replace function lull.queue_deleted_file()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform lull.queue_file_removals(array[to_jsonb(old)]);
  return null;
end
$$;

create or replace trigger queue_deleted_file
  after delete on lull.session_files
  for each row
  when (current_setting('lull.cleaning', true) is distinct from 'on')
  execute function lull.queue_deleted_file();
