-- Core: the restore. A key leaves the archive only when everything under it is back, or stands in a *remainder*: a
-- small page of its own with the reasons and a full new window, which any later restore of the key tries again.
--
-- An entry of a page has the rows of one table. An entry with "keys" updates instead: rows that came back without the
-- values of some columns (a link to a row that is still archived, a column that does not exist now) get them later.

-- Bring back what is archived under a key for its owner, oldest first. Null when the archive holds it not, or not for
-- this caller; else {"restored": rows, "missing": rows, "reasons": [...]}. Locks the keys, then their pages.
create or replace function lull.restore_key(p_target text, p_key text, p_caller jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_batches bigint[];
  v_batch bigint;
  v_one record;
  v_any boolean := false;
  v_restored integer := 0;
  v_missing integer := 0;
  v_reasons text[] := '{}';
begin
  if not exists (select 1 from lull.archive_keys where target = p_target and key = p_key)
    and not exists (select 1 from lull.archive where target = p_target and key = p_key)
    or not lull.archived_for(p_target, p_key, p_caller)
  then
    return null;
  end if;
  perform lull.move_older_key(p_target, p_key);
  perform 1 from lull.archive_keys where target = p_target and key = p_key order by page for update;
  v_batches := array(
    select distinct p.batch from lull.archived_pages(p_target, p_key, p_caller) a (page)
    join lull.archive_pages p on p.id = a.page order by 1);
  foreach v_batch in array v_batches loop
    select * into v_one from lull.restore_batch(v_batch, p_target, array[p_key]);
    continue when v_one.o_restored is null;
    v_any := true;
    v_restored := v_restored + v_one.o_restored;
    v_missing := v_missing + v_one.o_missing;
    v_reasons := v_reasons || v_one.o_reasons;
  end loop;
  if not v_any then
    return null;  -- another restore was first
  end if;
  return jsonb_build_object('restored', v_restored, 'missing', v_missing, 'reasons', to_jsonb(v_reasons));
end
$$;

-- Bring back keys of one batch (null: all of them) as a whole; where that fails, root by root, so that one that cannot
-- come back bars no other. What cannot is left in a remainder. Null results: another transaction was first. Returns the
-- rows that came back and those that did not, how many roots are back, and the reasons.
create or replace function lull.restore_batch(
  p_batch bigint, p_target text, p_keys text[],
  out o_restored integer, out o_missing integer, out o_roots integer, out o_reasons text[])
language plpgsql
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set lc_monetary = 'C'
set xmloption = 'content'
set array_nulls = on
set jit = off
as $$
declare
  v_pages bigint[] := array(select id from lull.archive_pages where batch = p_batch order by id);
  v_roots integer[];
  v_root integer;
  v_restoring text := coalesce(current_setting('lull.restoring', true), '');
  v_one record;
begin
  perform 1 from lull.archive_keys k
  where k.page = any (v_pages) and k.target = p_target and (p_keys is null or k.key = any (p_keys))
  order by k.target, k.key, k.page for update;
  perform 1 from lull.archive_pages where id = any (v_pages) order by id for update;
  select array_agg(distinct k.root) into v_roots from lull.archive_keys k
  join lull.archive_pages p on p.id = k.page
  where k.page = any (v_pages) and k.target = p_target and (p_keys is null or k.key = any (p_keys));
  if v_roots is null then
    return;
  end if;
  perform set_config('lull.restoring', 'on', true), set_config('lull.restoring_pages', v_pages::text, true);
  begin
    select * into v_one from lull.restore_roots(v_pages, v_roots, false);
    o_restored := v_one.o_restored; o_missing := v_one.o_missing; o_roots := v_one.o_roots;
    o_reasons := v_one.o_reasons;
  exception when others then
    if sqlstate in ('40001', '40P01', '55P03', '57014') then
      raise;
    end if;
    o_restored := 0; o_missing := 0; o_roots := 0; o_reasons := '{}';
    foreach v_root in array v_roots loop
      select * into v_one from lull.restore_one_root(v_pages, v_root);
      o_restored := o_restored + v_one.o_restored; o_missing := o_missing + v_one.o_missing;
      o_roots := o_roots + v_one.o_roots; o_reasons := o_reasons || v_one.o_reasons;
    end loop;
  end;
  perform set_config('lull.restoring', v_restoring, true), set_config('lull.restoring_pages', '{}', true);
end
$$;

-- Bring one root back; when the database refuses it as a whole (a constraint that is checked at the end), all of it
-- becomes a remainder.
create or replace function lull.restore_one_root(
  p_pages bigint[], p_root integer,
  out o_restored integer, out o_missing integer, out o_roots integer, out o_reasons text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  select r.* into o_restored, o_missing, o_roots, o_reasons from lull.restore_roots(p_pages, array[p_root], false) r;
exception when others then
  if sqlstate in ('40001', '40P01', '55P03', '57014') then
    raise;
  end if;
  select r.* into o_restored, o_missing, o_roots, o_reasons
  from lull.restore_roots(p_pages, array[p_root], true, sqlerrm) r;
end
$$;

-- Bring roots of locked pages back: a statement per table over all their rows, parents first. p_refuse: bring nothing
-- back, for this reason. Takes the keys out of the pages, makes the remainder, and tells the event log.
create or replace function lull.restore_roots(
  p_pages bigint[], p_roots integer[], p_refuse boolean, p_reason text default null,
  out o_restored integer, out o_missing integer, out o_roots integer, out o_reasons text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_entries jsonb;
  v_rows lull.archived_row[];
  v_path text;
  v_checks text[];
  v_later text[];
  v_places text;
  v_before jsonb;
  v_notes text[] := '{}';
begin
  select o_entries, o_rows into v_entries, v_rows from lull.read_roots(p_pages, p_roots, p_reason);
  if not p_refuse then
    select lull.team_path(g) into v_path
    from lull.archive_pages p left join lull.targets g on g.name = p.target where p.id = p_pages[1];
    -- Foreign keys wait for all rows; a place that is taken is told of the row that wants it.
    select coalesce(array_agg(c.name) filter (where c.is_link), '{}'),
      coalesce(array_agg(c.name) filter (where c.deferred), '{}'),
      string_agg(c.name, ', ') filter (where not c.is_link)
    into v_checks, v_later, v_places
    from lull.deferrable_constraints(array(
      select to_regclass(e ->> 'table')::oid from jsonb_array_elements(v_entries) e)) c;
    v_before := lull.rows_inserted(v_entries);
    perform lull.defer_constraints(v_checks);
    if v_places <> '' then
      execute format('set constraints %s immediate', v_places);
    end if;
    select o_entries, o_rows into v_entries, v_rows from lull.insert_archived(v_entries, v_rows, v_path);
    if v_checks <> '{}' then
      perform lull.run_for_team(v_path, format('set constraints %s immediate', array_to_string(v_checks, ', ')));
    end if;
    perform lull.defer_constraints(v_later);
    v_notes := lull.set_right(v_entries, v_rows, v_path) || lull.rows_added(v_entries, v_rows, v_before);
  end if;
  select r.* into o_restored, o_missing, o_roots, o_reasons
  from lull.settle_restore(p_pages, p_roots, v_entries, v_rows, v_notes) r;
end
$$;

-- Read roots of pages: the kinds of entries (table, columns, keys), and all rows with the ordinal of their entry.
create or replace function lull.read_roots(
  p_pages bigint[], p_roots integer[], p_reason text, out o_entries jsonb, out o_rows lull.archived_row[])
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with page_row as materialized (
    select row_number() over () as i, r.*
    from unnest(p_pages) with ordinality u (page, o)
    join lull.archive_pages p on p.id = u.page
    cross join lateral lull.page_rows(p.content, p_roots) r
  ), entry as materialized (
    select row_number() over (order by keys is not null, min(i)) as n, tab, columns, keys
    from page_row group by tab, columns, keys
  )
  select (
      select coalesce(jsonb_agg(jsonb_build_object('table', e.tab, 'columns', e.columns, 'keys', e.keys)
        order by e.n), '[]')
      from entry e), (
      select coalesce(array_agg(row(e.n::integer, r.root, r.cells, p_reason)::lull.archived_row order by r.i), '{}')
      from page_row r
      join entry e on e.tab = r.tab and e.columns = r.columns and e.keys is not distinct from r.keys);
$$;
