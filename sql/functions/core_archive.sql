-- Core: documents, cascades, archive, restore, purge.
--
-- A *document* is a row as a JSON object of column → text form (null for SQL null). Text is what Postgres itself
-- dumps and reads back, so every type survives: a JSON null is the text 'null', an array keeps its bounds.
-- Functions that build or read documents run with the output settings pinned, because text forms depend on them.
--
-- A *cascade* is every row that a foreign key ON DELETE CASCADE would take along, at any depth.

-- The columns of a table, in table order. The type is without its length: a cast to varchar(3) would cut a value that
-- is too long, where an insert refuses it.
create or replace function lull.table_columns(p_table regclass)
returns table (name text, type text, is_generated boolean, keeps_blanks boolean)
language sql
stable
set search_path = ''
as $$
  select a.attname::text, pg_catalog.format_type(a.atttypid, -1), a.attgenerated <> '',
    a.atttypmod = -1 and t.typoutput = 'pg_catalog.bpcharout'::regproc
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = a.atttypid
  where a.attrelid = p_table
    and a.attnum > 0
    and not a.attisdropped
  order by a.attnum;
$$;

-- The SQL expression that makes a document of the row aliased p_alias; of p_columns only, when given.
create or replace function lull.document_expression(p_table regclass, p_alias text, p_columns text[] default null)
returns text
language sql
stable
set search_path = ''
as $$
  select format(
    'jsonb_object(array[%s]::text[], array[%s]::text[])',
    string_agg(format('%L', c.name), ', '),
    string_agg(format(
      -- A cast to text takes away the blanks at the end of a bpchar without a length.
      case when c.keeps_blanks then 'pg_catalog.textin(pg_catalog.bpcharout(%I.%I))' else '%I.%I::text' end,
      p_alias, c.name), ', '))
  from lull.table_columns(p_table) c
  where p_columns is null or c.name = any (p_columns);
$$;

-- The foreign keys that a delete in p_table would follow, at any depth. `shared`: a row of the child may be reached
-- by more than one way (several foreign keys, or a table that refers to itself), so it must be counted once.
create or replace function lull.cascade_edges(p_table regclass)
returns table (
  parent regclass, child regclass, parent_columns text[], child_columns text[], key_types text[], shared boolean)
language sql
stable
set search_path = ''
as $$
  with recursive edge as (
    select f.oid, f.confrelid, f.conrelid, f.confkey, f.conkey, f.conname
    from pg_catalog.pg_constraint f
    where f.contype = 'f' and f.confdeltype = 'c' and f.conparentid = 0
  ), reached as (
    select * from edge where confrelid = p_table
    union
    select e.* from edge e join reached r on e.confrelid = r.conrelid
  )
  select r.confrelid::regclass, r.conrelid::regclass, p.names, c.names, p.types,
    r.conrelid = p_table or count(*) over (partition by r.conrelid) > 1
  from reached r
  cross join lateral (
    select array_agg(a.attname::text order by k.ord) as names,
      array_agg(pg_catalog.format_type(a.atttypid, -1) order by k.ord) as types
    from unnest(r.confkey) with ordinality k (attnum, ord)
    join pg_catalog.pg_attribute a on a.attrelid = r.confrelid and a.attnum = k.attnum
  ) p
  cross join lateral (
    select array_agg(a.attname::text order by k.ord) as names
    from unnest(r.conkey) with ordinality k (attnum, ord)
    join pg_catalog.pg_attribute a on a.attrelid = r.conrelid and a.attnum = k.attnum
  ) c
  order by r.conrelid::regclass::text, r.conname;
$$;

-- The columns that a document needs when the row is not archived: those that its children refer to, and those from
-- which bytes, tombstones and events are told.
create or replace function lull.needed_columns(p_table regclass, p_edges jsonb)
returns text[]
language sql
stable
set search_path = ''
as $$
  select array(
    select distinct x
    from jsonb_array_elements(p_edges) e, jsonb_array_elements_text(e -> 'parent_columns') x
    where e ->> 'parent' = p_table::text
  ) || case p_table::text
    when 'lull.session_files' then '{bucket,path,upload_expires_at}'::text[]
    when 'lull.sessions' then '{id,kind,status,owner_id,owner_token_hash}'::text[]
    else '{}'
  end;
$$;

-- Walk the cascade below the given rows, one statement a level, parents first.
--   p_rows, p_ctids  documents and places of the rows of p_target, which the caller has locked (or only counts)
--   p_lock           lock each level `for update` (a level is complete, because its parents are locked already)
--   p_documents      'full' to archive, 'needed' when the row is not kept
-- Returns for each cascaded row the ordinal of its root, its table and document, in the order of a restore, and the
-- counts per table.
create or replace function lull.walk_cascade(
  p_target regclass, p_rows jsonb[], p_ctids tid[], p_lock boolean, p_documents text,
  out o_root integer[], out o_table text[], out o_row jsonb[], out o_counts jsonb)
language plpgsql
set search_path = ''
as $$
declare
  v_edges jsonb;
  v_edge record;
  v_seen text[] := '{}';
  f_table text[];
  f_root integer[];
  f_row jsonb[];
  n_table text[];
  n_root integer[];
  n_row jsonb[];
  v_parent_root integer[];
  v_parent_row jsonb[];
  v_root integer[];
  v_row jsonb[];
  v_place text[];
begin
  o_root := '{}'; o_table := '{}'; o_row := '{}'; o_counts := '{}';
  select coalesce(jsonb_agg(to_jsonb(e)), '[]') into v_edges from lull.cascade_edges(p_target) e;
  if v_edges = '[]' or cardinality(p_rows) = 0 then
    return;
  end if;
  if exists (select 1 from jsonb_array_elements(v_edges) e where e ->> 'child' = p_target::text) then
    select array_agg(p_target::oid || ':' || c) into v_seen from unnest(p_ctids) c;
  end if;
  f_row := p_rows;
  f_root := array(select generate_series(1, cardinality(p_rows)));
  f_table := array_fill(p_target::text, array[cardinality(p_rows)]);

  while cardinality(f_row) > 0 loop
    n_table := '{}'; n_root := '{}'; n_row := '{}';
    for v_edge in
      select * from jsonb_to_recordset(v_edges) as e (
        parent regclass, child regclass, parent_columns text[], child_columns text[], key_types text[], shared boolean)
    loop
      select array_agg(u.root order by u.n), array_agg(u.doc order by u.n)
      into v_parent_root, v_parent_row
      from unnest(f_table, f_root, f_row) with ordinality u (tab, root, doc, n)
      where u.tab = v_edge.parent::text;
      continue when v_parent_row is null;

      execute lull.cascade_query(v_edge.child, v_edge.parent_columns, v_edge.child_columns, v_edge.key_types,
        case when p_documents = 'needed' then lull.needed_columns(v_edge.child, v_edges) end, p_lock)
      into v_root, v_row, v_place
      using v_parent_root, v_parent_row, case when v_edge.shared then v_seen else '{}' end;
      continue when v_row is null;

      if v_edge.shared then
        v_seen := v_seen || v_place;
      end if;
      n_root := n_root || v_root;
      n_row := n_row || v_row;
      n_table := n_table || array_fill(v_edge.child::text, array[cardinality(v_row)]);
      o_counts := o_counts || jsonb_build_object(v_edge.child::text,
        coalesce((o_counts ->> v_edge.child::text)::bigint, 0) + cardinality(v_row));
    end loop;
    o_root := o_root || n_root;
    o_table := o_table || n_table;
    o_row := o_row || n_row;
    f_table := n_table; f_root := n_root; f_row := n_row;
  end loop;
end
$$;

-- The statement that reads (and locks) the children of one foreign key: $1 root ordinals and $2 documents of the
-- parents, $3 places that were reached before. A single column is looked up as an array, which an index serves.
create or replace function lull.cascade_query(
  p_child regclass, p_parent_columns text[], p_child_columns text[], p_types text[], p_columns text[], p_lock boolean)
returns text
language sql
stable
set search_path = ''
as $$
  with names as (
    select
      string_agg(format('(p.doc ->> %L)::%s', u.parent_column, u.type), ', ' order by u.n) as parent_values,
      string_agg(format('c.%I', u.child_column), ', ' order by u.n) as child_columns,
      string_agg(format('c.%I as k%s', u.child_column, u.n), ', ' order by u.n) as keys,
      string_agg(format('l.k%s', u.n), ', ' order by u.n) as locked_keys
    from unnest(p_parent_columns, p_child_columns, p_types) with ordinality u (parent_column, child_column, type, n)
  )
  select format(
    'with parent as materialized (
       select u.root, u.doc from unnest($1::integer[], $2::jsonb[]) u (root, doc)
     ), child as materialized (
       select c.tableoid || '':'' || c.ctid as place, %s as doc, %s
       from %s c
       where %s
       %s
     )
     select array_agg(x.root), array_agg(x.doc), array_agg(x.place)
     from (
       select distinct on (l.place) p.root, l.doc, l.place
       from child l
       join parent p on (%s) = (%s)
       where not exists (select 1 from unnest($3::text[]) s (place) where s.place = l.place)
       order by l.place, p.root
     ) x',
    case when cardinality(p_columns) = 0 then 'null::jsonb'
      else lull.document_expression(p_child, 'c', p_columns) end,
    keys,
    p_child,
    case when cardinality(p_types) = 1
      then format('%s = any (array(select %s from parent p))', child_columns, parent_values)
      else format('(%s) in (select %s from parent p)', child_columns, parent_values) end,
    case when p_lock then 'for update of c' else '' end,
    locked_keys,
    parent_values)
  from names;
$$;

-- Put rows and everything below them into the archive. An older archived row with the same key is purged first: its
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
    -- Consecutive rows of one table make one entry, so that entries stay in the order of a restore.
    select g.root, jsonb_agg(jsonb_build_object('table', g.tab, 'rows', g.rows) order by g.first) as children
    from (
      select i.root, i.tab, min(i.n) as first, jsonb_agg(i.doc order by i.n) as rows
      from (
        select u.*, row_number() over (partition by u.root order by u.n)
          - row_number() over (partition by u.root, u.tab order by u.n) as island
        from unnest(p_roots, p_tables, p_children) with ordinality u (root, tab, doc, n)
      ) i
      group by i.root, i.tab, i.island
    ) g
    group by g.root
  ) c on c.root = r.root;
  get diagnostics v_archived = row_count;
  if v_older is not null then
    -- A file of the older row that the newer one has too must be there when that is restored.
    delete from lull.file_removals r
    using unnest(p_rows || p_children, array_fill(p_target, array[cardinality(p_rows)]) || p_tables) d (doc, tab)
    where d.tab = 'lull.session_files' and r.bucket = d.doc ->> 'bucket' and r.path = d.doc ->> 'path';
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

-- Insert the children of an archived row. Siblings may refer to one another, so what fails is tried again as long as
-- anything succeeds, first by the table, then row by row. Returns {"children", "conflicts"} as restore_archived does.
create or replace function lull.restore_children(p_children jsonb)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_pending jsonb := p_children;
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
