-- Cleanup, the removal: what a batch does with stale rows. Lock them and everything below them, archive, delete.

-- Lock the oldest stale rows behind the cursor. A row that somebody else holds is passed over; one that changed while
-- it was being locked is judged again as it is now. Returns their places, keys (as key_text has them) and documents,
-- oldest first.
create or replace function lull.lock_rows(
  p_policy lull.policies, p_line lull.cleanup_run_policies, p_key text[], p_size integer,
  out o_ctids tid[], out o_keys text[], out o_rows jsonb[])
language plpgsql
set search_path = ''
as $$
declare
  v_table regclass := p_policy.target::regclass;
  v_columns text[];
begin
  if not p_policy.archive then
    select p_key || p_policy.clock || lull.document_columns(v_table, coalesce(jsonb_agg(to_jsonb(e)), '[]'))
    into v_columns
    from lull.cascade_edges(v_table) e;
  end if;
  execute format(
    'select coalesce(array_agg(x.ctid), ''{}''), coalesce(array_agg(x.key), ''{}''), coalesce(array_agg(x.doc), ''{}'')
     from (select t.ctid, %s as key, %s as doc from %s limit %s for update of t skip locked) x',
    (select case count(*) when 1 then min(format('t.%I::text', k.name))
        else format('jsonb_build_array(%s)::text', string_agg(format('t.%I::text', k.name), ', ' order by k.n)) end
      from unnest(p_key) with ordinality k (name, n)),
    lull.document_expression(v_table, 't', v_columns),
    lull.stale_rows(p_policy, p_line.cutoff, p_line.cursor_clock, p_line.cursor_key), p_size)
  into o_ctids, o_keys, o_rows;
end
$$;

-- Archive (or queue the bytes of) locked rows and everything below them, then delete them. Raises unless exactly the
-- locked rows were archived and deleted, so that the batch undoes itself.
create or replace function lull.take_rows(
  p_run uuid, p_policy lull.policies, p_ctids tid[], p_keys text[], p_rows jsonb[],
  out o_deleted integer, out o_cascaded integer, out o_files integer)
language plpgsql
set search_path = ''
as $$
declare
  v_table regclass := p_policy.target::regclass;
  v_before jsonb;
  v_archived integer;
  v_counts jsonb;
  v_root integer[];
  v_tables text[] := '{}';
  v_children jsonb[] := '{}';
begin
  if lull.may_simply_go(p_policy) then
    v_before := lull.deleted_below(v_table);
  elsif p_policy.archive and lull.is_flat(v_table) and not exists (
    select 1 from lull.archive where target = p_policy.target and key = any (p_keys)
  ) then
    select o_archived, o_counts into v_archived, v_counts
    from lull.archive_flat(p_run, p_policy.name, p_policy.target, p_keys, p_rows, p_policy.restore_window);
  else
    select o_root, o_table, o_row, o_counts into v_root, v_tables, v_children, v_counts
    from lull.walk_cascade(v_table, p_rows, true, case when p_policy.archive then 'full' else 'needed' end);
    if p_policy.archive then
      v_archived := lull.archive_rows(p_run, p_policy.name, p_policy.target, p_keys, p_rows,
        v_root, v_tables, v_children, p_policy.restore_window);
    else
      perform lull.queue_file_removals(
        lull.documents_of('lull.session_files', p_policy.target, p_rows, v_tables, v_children));
    end if;
  end if;
  if v_archived <> cardinality(p_rows) then
    raise exception 'only % of % rows could be archived', v_archived, cardinality(p_rows);
  end if;
  -- Bytes of these files are the archive's business, not that of the trigger on lull.session_files.
  perform set_config('lull.cleaning', 'on', true);
  if p_policy.target = 'lull.archive' then
    o_deleted := lull.purge_archived(array(select (d ->> 'id')::bigint from unnest(p_rows) d));
  else
    execute format('delete from %s where ctid = any ($1)', v_table) using p_ctids;
    get diagnostics o_deleted = row_count;
  end if;
  if o_deleted <> cardinality(p_rows) then
    raise exception 'the database deleted % of % rows without an error: a trigger keeps the rest',
      o_deleted, cardinality(p_rows);
  end if;
  perform lull.check_nothing_stayed(v_table, p_rows, v_tables, v_children);
  if v_before is not null then
    v_counts := lull.deleted_below(v_table, v_before);
  end if;
  o_cascaded := (select coalesce(sum(value::integer), 0) from jsonb_each_text(v_counts));
  o_files := coalesce((v_counts ->> 'lull.session_files')::integer, 0);
  perform set_config('lull.cleaning', 'off', true);

  if p_policy.target = 'lull.sessions' then
    perform lull.append_events(p_rows, case when p_policy.archive then 'archived' else 'purged' end,
      jsonb_build_object('run', p_run, 'policy', p_policy.name));
    if not p_policy.archive then
      perform lull.leave_tombstones(p_rows);
    end if;
  end if;
end
$$;

-- Whether rows and what hangs below them need nothing but a delete: nothing is archived, and nothing has bytes. The delete takes
-- it along by the foreign keys, parents first, and waits for a busy child no longer than a lock of ours would.
create or replace function lull.may_simply_go(p_policy lull.policies)
returns boolean
language sql
stable
set search_path = ''
as $$
  select not p_policy.archive and p_policy.target not in ('lull.archive', 'lull.session_files')
    and current_setting('track_counts')::boolean
    and lull.is_flat(p_policy.target::regclass) and not exists (
      select 1 from lull.cascade_edges(p_policy.target::regclass) e
      join pg_catalog.pg_class c on c.oid = e.child
      where e.child = 'lull.session_files'::regclass or c.relkind <> 'r');  -- partitions are counted each by itself
$$;

-- Raise when a row below the deleted ones is still there: a BEFORE DELETE trigger can keep a child although its parent
-- goes, and would leave it without one. Looks only where there is such a trigger.
create or replace function lull.check_nothing_stayed(
  p_target regclass, p_rows jsonb[], p_tables text[], p_children jsonb[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_edge record;
  v_parents jsonb[];
  v_roots integer[];
  v_stayed jsonb[];
  v_count bigint;
begin
  for v_edge in
    select e.* from lull.cascade_edges(p_target) e
    where exists (
      select 1 from pg_catalog.pg_trigger t
      where t.tgrelid = e.child and not t.tgisinternal and t.tgtype & 11 = 11)  -- each row, before, delete
  loop
    v_parents := lull.documents_of(v_edge.parent::text, p_target::text, p_rows, p_tables, p_children);
    execute lull.cascade_query(
      v_edge.child, v_edge.parent_columns, v_edge.child_columns, v_edge.key_types, '{}', false, false)
    into v_roots, v_stayed, v_count
    using array_fill(1, array[cardinality(v_parents)]), v_parents;
    if v_count > 0 then
      raise exception 'a trigger keeps rows of % that would have gone along', v_edge.child;
    end if;
  end loop;
end
$$;

-- A row's key as one text: the value of a single column, a JSON array of several.
create or replace function lull.key_text(p_document jsonb, p_columns text[])
returns text
language sql
immutable
set search_path = ''
as $$
  select case when cardinality(p_columns) = 1 then p_document ->> p_columns[1]
    else (select jsonb_agg(p_document -> c order by n)::text from unnest(p_columns) with ordinality u (c, n)) end;
$$;
