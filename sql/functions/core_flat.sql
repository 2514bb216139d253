-- Core: flat cascades.
--
-- A cascade is *flat* when everything below a table hangs directly below it, by one way, and by a key of one column: so it is
-- with Lull's own tables, and most. One statement then does for a batch what walk_cascade and archive_rows do for any
-- shape, level by level, and in half the time: no document of a child is handed from one statement to the next.

-- Whether a table's cascade is flat. A table with nothing below it is so, too.
create or replace function lull.is_flat(p_table regclass)
returns boolean
language sql
stable
set search_path = ''
as $$
  select coalesce(bool_and(e.parent = p_table and not e.shared and cardinality(e.key_types) = 1), true)
  from lull.cascade_edges(p_table) e;
$$;

-- Lock everything below locked rows of a table with a flat cascade, and archive it with them. The rows were locked by an
-- earlier statement: so this one sees every child that was added before, and none can be added any more.
-- No archived row may have one of the keys. Returns how many rows were archived, and how many go along by table.
create or replace function lull.archive_flat(
  p_run uuid, p_policy text, p_target text, p_keys text[], p_rows jsonb[], p_restore_window interval,
  out o_archived integer, out o_counts jsonb)
language plpgsql
set search_path = ''
set enable_nestloop = off
as $$
begin
  execute lull.flat_archive_statement(p_target::regclass)
  into o_archived, o_counts
  using p_run, p_policy, p_target, p_keys, p_rows, p_restore_window;
end
$$;

-- The statement of archive_flat, with its arguments as $1 to $6. Children are put together as text and read as jsonb
-- once: each jsonb that goes into another one is taken apart for it.
create or replace function lull.flat_archive_statement(p_table regclass)
returns text
language sql
stable
set search_path = ''
as $$
  with edge as (
    select row_number() over () as n, e.child, e.child_columns[1] as child_column,
      format('(r.doc ->> %L)::%s', e.parent_columns[1], e.key_types[1]) as parent_value
    from lull.cascade_edges(p_table) e
  )
  select format(
    'with root as materialized (
       select r.n, r.key, r.doc%s from unnest($4::text[], $5::jsonb[]) with ordinality r (key, doc, n)
     )%s, archived as (
       insert into lull.archive (run_id, policy, target, key, "row", children, purge_after)
       select $1, $2, $3, r.key, r.doc, (''['' || concat_ws('', '', null%s) || '']'')::jsonb, now() + $6
       from root r%s
       order by r.n  -- a restore goes by the order of the archive
       returning 1
     )
     select (select count(*) from archived), jsonb_strip_nulls(jsonb_build_object(%s))',
    string_agg(format(', %s as k%s', parent_value, n), '' order by n),
    string_agg(format(
      ', child%1$s as materialized (
         select c.%2$I as k, json_object(%3$s)::text as doc
         from %4$s c where c.%2$I = any (array(select k%1$s from root)) for update of c
       ), children%1$s as (
         select k, string_agg(doc, '', '') as docs from child%1$s group by k
       )',
      n, child_column, lull.document_arguments(child, 'c'), child), '' order by n),
    string_agg(format(
      ', %L || children%s.docs || '']}''', format('{"table": %s, "rows": [', to_json(child::text)), n), '' order by n),
    string_agg(format(' left join children%1$s on children%1$s.k = r.k%1$s', n), '' order by n),
    string_agg(format('%L, (select nullif(count(*), 0) from child%s)', child::text, n), ', ' order by n))
  from edge;
$$;

-- How many rows this transaction has deleted from each table below p_table, less those of an earlier answer: what went along
-- with a delete in between. That is what Postgres itself has counted, and costs nothing.
create or replace function lull.deleted_below(p_table regclass, p_earlier jsonb default '{}')
returns jsonb
language sql
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(e.child::text,
    pg_catalog.pg_stat_get_xact_tuples_deleted(e.child) - coalesce((p_earlier ->> e.child::text)::bigint, 0)), '{}')
  from lull.cascade_edges(p_table) e;
$$;
