-- Core: documents and cascades.
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

-- What makes a document of the row aliased p_alias, with p_columns only, when given: names and text forms, the two arguments
-- of jsonb_object or json_object. The names are in the order that jsonb keeps, so that it need not sort them for each row.
create or replace function lull.document_arguments(p_table regclass, p_alias text, p_columns text[] default null)
returns text
language sql
stable
set search_path = ''
as $$
  select format(
    'array[%s]::text[], array[%s]::text[]',
    string_agg(format('%L', c.name), ', ' order by length(c.name), c.name collate "C"),
    string_agg(format(
      -- A cast to text takes away the blanks at the end of a bpchar without a length.
      case when c.keeps_blanks then 'pg_catalog.textin(pg_catalog.bpcharout(%I.%I))' else '%I.%I::text' end,
      p_alias, c.name), ', ' order by length(c.name), c.name collate "C"))
  from lull.table_columns(p_table) c
  where p_columns is null or c.name = any (p_columns);
$$;

-- The SQL expression that makes a document of the row aliased p_alias; of p_columns only, when given.
create or replace function lull.document_expression(p_table regclass, p_alias text, p_columns text[] default null)
returns text
language sql
stable
set search_path = ''
as $$
  select format('jsonb_object(%s)', lull.document_arguments(p_table, p_alias, p_columns));
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
    count(*) over (partition by r.conrelid) > 1
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

-- The columns that a document of a row needs (null: all of them), by what it is for:
--   full     to be archived
--   needed   to be deleted: what its children refer to, and from what bytes, tombstones and events are told
--   keys     to be counted: what its children refer to
create or replace function lull.document_columns(p_table regclass, p_edges jsonb, p_documents text default 'needed')
returns text[]
language sql
stable
set search_path = ''
as $$
  select case when p_documents <> 'full' then array(
    select distinct x
    from jsonb_array_elements(p_edges) e, jsonb_array_elements_text(e -> 'parent_columns') x
    where e ->> 'parent' = p_table::text
  ) || case when p_documents = 'keys' then '{}'::text[] else
    case p_table::text
      when 'lull.session_files' then '{bucket,path,upload_expires_at}'::text[]
      when 'lull.sessions' then '{id,kind,status,owner_id,owner_token_hash}'::text[]
      else '{}'
    end
  end end;
$$;

-- Walk the cascade below the given rows, one statement a level and foreign key, parents first.
--   p_rows           documents of the rows of p_target, which the caller has locked (or only counts)
--   p_lock           lock each level `for update` (a level is complete, because its parents are locked already)
--   p_documents      'full' to archive, 'needed' when the row is not kept, 'keys' only to count
-- Returns for each cascaded row the ordinal of its root, its table and document, in the order of a restore; rows of which
-- nothing is needed are left out. o_counts has how many there are per table.
create or replace function lull.walk_cascade(
  p_target regclass, p_rows jsonb[], p_lock boolean, p_documents text,
  out o_root integer[], out o_table text[], out o_row jsonb[], out o_counts jsonb)
language plpgsql
set search_path = ''
as $$
declare
  v_edges jsonb;
  v_edge record;
  v_seen text[] := '{}';
  v_depth integer := 0;
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
  v_table text[];
  v_count bigint;
  v_place text[];
begin
  o_root := '{}'; o_table := '{}'; o_row := '{}'; o_counts := '{}';
  select coalesce(jsonb_agg(to_jsonb(e)), '[]') into v_edges from lull.cascade_edges(p_target) e;
  if v_edges = '[]' or cardinality(p_rows) = 0 then
    return;
  end if;
  f_row := p_rows;
  f_root := array(select generate_series(1, cardinality(p_rows)));
  f_table := array_fill(p_target::text, array[cardinality(p_rows)]);

  while cardinality(f_row) > 0 loop
    n_table := '{}'; n_root := '{}'; n_row := '{}';
    for v_edge in
      select *, jsonb_path_exists(v_edges, '$[*] ? (@.parent == $child)', jsonb_build_object('child', child)) as is_parent
      from jsonb_to_recordset(v_edges) as e (
        parent regclass, child regclass, parent_columns text[], child_columns text[], key_types text[], shared boolean)
    loop
      if v_depth = 0 and v_edge.parent = p_target then
        v_parent_root := f_root; v_parent_row := f_row;
      else
        select array_agg(u.root order by u.n), array_agg(u.doc order by u.n)
        into v_parent_root, v_parent_row
        from unnest(f_table, f_root, f_row) with ordinality u (tab, root, doc, n)
        where u.tab = v_edge.parent::text;
      end if;
      continue when v_parent_row is null;

      execute lull.cascade_query(v_edge.child, v_edge.parent_columns, v_edge.child_columns, v_edge.key_types,
        lull.document_columns(v_edge.child, v_edges, p_documents), p_lock, v_edge.shared)
      into v_root, v_row, v_count, v_place
      using v_parent_root, v_parent_row, case when v_edge.shared then v_seen else '{}' end;
      continue when v_count = 0;

      if v_edge.shared then
        v_seen := v_seen || v_place;
      end if;
      v_table := array_fill(v_edge.child::text, array[coalesce(cardinality(v_row), 0)]);
      if v_edge.is_parent then
        n_root := n_root || v_root; n_row := n_row || v_row; n_table := n_table || v_table;
      end if;
      o_root := o_root || v_root; o_row := o_row || v_row; o_table := o_table || v_table;
      o_counts := o_counts || jsonb_build_object(v_edge.child::text,
        coalesce((o_counts ->> v_edge.child::text)::bigint, 0) + v_count);
    end loop;
    f_table := n_table; f_root := n_root; f_row := n_row;
    v_depth := v_depth + 1;
  end loop;
end
$$;

-- The statement that reads (and locks) the children of one foreign key: $1 root ordinals and $2 documents of the
-- parents, $3 places that were reached before. A single column is looked up as an array, which an index serves.
-- It returns the roots, the documents, how many rows there are, and the places of shared ones.
create or replace function lull.cascade_query(
  p_child regclass, p_parent_columns text[], p_child_columns text[], p_types text[], p_columns text[], p_lock boolean,
  p_shared boolean)
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
  ), parts as (
    select n.*,
      case when cardinality(p_types) = 1
        then format('%s = any (array(select %s from unnest($2::jsonb[]) p (doc)))', child_columns, parent_values)
        else format('(%s) in (select %s from unnest($2::jsonb[]) p (doc))', child_columns, parent_values) end as condition,
      case when p_lock then 'for update of c' else '' end as lock,
      case when cardinality(p_columns) = 0 then 'null::jsonb'
        else lull.document_expression(p_child, 'c', p_columns) end as document,
      format('unnest($1::integer[], $2::jsonb[]) p (root, doc) on (%s) = (%s)', locked_keys, parent_values) as parents
    from names n
  )
  select case
    when p_shared then format(
      'with child as materialized (
         select c.tableoid || '':'' || c.ctid as place, %s as doc, %s from %s c where %s %s
       )
       select array_agg(x.root), array_agg(x.doc), count(*), array_agg(x.place)
       from (
         select distinct on (l.place) p.root, l.doc, l.place from child l join %s
         where not exists (select 1 from unnest($3::text[]) s (place) where s.place = l.place)
         order by l.place, p.root
       ) x',
      document, keys, p_child, condition, lock, parents)
    when cardinality(p_columns) = 0 then format(
      'select null::integer[], null::jsonb[], count(*), null::text[] from (select 1 from %s c where %s %s) x',
      p_child, condition, lock)
    else format(
      'with child as materialized (
         select %s as doc, %s from %s c where %s %s
       )
       select array_agg(p.root), array_agg(l.doc), count(*), null::text[] from child l join %s',
      document, keys, p_child, condition, lock, parents)
  end
  from parts;
$$;
