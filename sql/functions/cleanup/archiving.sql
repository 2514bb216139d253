-- Cleanup, the removal: rows go into pages of the archive, and are deleted with proof (deletion.sql).

-- Archive locked places, or queue the bytes of those that are not kept, and append the events of sessions. p_count: how
-- many of them, the first, are roots; p_size: about how many bytes of text; p_keys and p_owners by root.
create or replace function lull.archive_places(
  p_line lull.cleanup_run_policies, p_policy lull.policy_definition, p_made lull.compiled_policies, p_tabs oid[],
  p_ctids tid[], p_roots integer[], p_count integer, p_size bigint, p_keys text[], p_owners uuid[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_one_page constant bigint := 2000000;
  v_rows bigint;
  v_roots bigint;
begin
  if p_policy.archive and p_size <= c_one_page then
    perform lull.archive_in_one_page(p_line, p_policy, p_made, p_tabs, p_ctids, p_roots, p_count, p_keys, p_owners);
  elsif p_policy.archive then
    execute p_made.archive_statement into v_rows, v_roots
    using p_tabs, p_ctids, p_roots, p_line.run_id, p_line.policy, p_policy.restore_window, p_keys, p_owners;
    if v_rows <> cardinality(p_ctids) or v_roots <> p_count then
      raise exception 'only % of % rows could be archived', v_rows, cardinality(p_ctids);
    end if;
  elsif p_policy.target = 'lull.archive_pages' then
    perform lull.purge_pages(array(select id from lull.archive_pages where ctid = any (p_ctids)));
  elsif 'lull.session_files'::regclass = any (p_tabs) then
    perform lull.queue_files(p_ctids[array_position(p_tabs, 'lull.session_files'::regclass::oid):], p_tabs[
      array_position(p_tabs, 'lull.session_files'::regclass::oid):]);
  end if;
  if p_policy.target = 'lull.sessions' then
    perform lull.append_session_events(p_ctids[1:p_count], case when p_policy.archive then 'archived' else 'purged' end,
      jsonb_build_object('run', p_line.run_id, 'policy', p_line.policy));
    if not p_policy.archive then
      insert into lull.tombstones (session_id, owner_id, owner_token_hash)
      select s.id, s.owner_id, s.owner_token_hash from lull.sessions s where s.ctid = any (p_ctids[1:p_count])
      on conflict (session_id) do nothing;
    end if;
  elsif p_policy.base is not null then
    perform lull.append_own_events(p_policy.target, array(select p_keys[r] from unnest(p_roots[1:p_count]) r),
      case when p_policy.archive then 'archived' else 'purged' end,
      jsonb_build_object('run', p_line.run_id, 'policy', p_line.policy));
  end if;
end
$$;

-- Archive places whose text fits one page.
create or replace function lull.archive_in_one_page(
  p_line lull.cleanup_run_policies, p_policy lull.policy_definition, p_made lull.compiled_policies, p_tabs oid[],
  p_ctids tid[], p_roots integer[], p_count integer, p_keys text[], p_owners uuid[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_few constant integer := 100;
  v_page bigint := nextval('lull.archive_pages_id_seq');
  v_content json;
  v_rows bigint;
begin
  if cardinality(p_ctids) <= c_few then
    execute format('execute %s_page (%L, %L, %L)', p_made.prepared_as, p_tabs, p_ctids, p_roots)
    into v_content, v_rows;
  else
    execute p_made.page_statement into v_content, v_rows using p_tabs, p_ctids, p_roots;
  end if;
  if v_rows <> cardinality(p_ctids) then
    raise exception 'only % of % rows could be archived', v_rows, cardinality(p_ctids);
  end if;
  insert into lull.archive_pages (id, batch, run_id, policy, target, rows, content, purge_after)
  values (v_page, v_page, p_line.run_id, p_line.policy, p_policy.target, v_rows, v_content,
    now() + p_policy.restore_window);
  insert into lull.archive_keys (page, target, key, owner, root)
  select v_page, p_policy.target, p_keys[r], p_owners[r], r from unnest(p_roots[1:p_count]) r
  order by p_keys[r];  -- neighbours in the primary key, one after the other
end
$$;

-- Queue the bytes of files that are about to be deleted for good; places of other tables are passed over.
create or replace function lull.queue_files(p_ctids tid[], p_tabs oid[])
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  insert into lull.file_removals (bucket, path, not_before)
  select f.bucket, f.path, greatest(now(), f.upload_expires_at)
  from lull.session_files f
  where f.ctid = any (array(
    select u.ctid from unnest(p_ctids, p_tabs) u (ctid, tab) where u.tab = 'lull.session_files'::regclass))
  on conflict (bucket, path) do nothing;
$$;

-- Delete the roots among places (their foreign keys take the rest) and prove it: of every table of the cascade, as many
-- rows were deleted as were locked. Where a team's triggers run, all tables are compared, and what went elsewhere is
-- returned: {"table": rows}. Deferrable constraints are checked here, by name, not at the commit.
create or replace function lull.delete_places(p_made lull.compiled_policies, p_tabs oid[], p_ctids tid[])
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_relations oid[] := case when p_made.has_triggers then array(
    select c.oid from pg_catalog.pg_class c
    where c.relkind = 'r' and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
      or c.oid = any (p_made.counted)
    order by 1) else p_made.counted end;
  v_cleaning text := coalesce(current_setting('lull.cleaning', true), '');
  v_deleted bigint[];
  v_updated bigint[];
  v_ctids tid[];
begin
  if not current_setting('track_counts')::boolean then
    raise exception 'track_counts is off: what a batch deletes cannot be proved; set it to on';
  end if;
  select array_agg(pg_stat_get_xact_tuples_deleted(u.o) order by u.i),
    array_agg(pg_stat_get_xact_tuples_updated(u.o) order by u.i)
  into v_deleted, v_updated
  from unnest(v_relations) with ordinality u (o, i);
  -- Bytes of these files are the archive's business, not that of the trigger on lull.session_files.
  perform set_config('lull.cleaning', 'on', true);
  for i in 1 .. cardinality(p_made.delete_tables) loop
    if p_made.delete_tables[i] = any (p_tabs) then
      v_ctids := array(select u.ctid from unnest(p_tabs, p_ctids) u (tab, ctid) where u.tab = p_made.delete_tables[i]);
      perform lull.run_for_team(p_made.team_path, p_made.delete_statements[i], v_ctids);
    end if;
  end loop;
  if p_made.checks_now <> '{}' then
    perform lull.run_for_team(p_made.team_path,
      format('set constraints %s immediate', array_to_string(p_made.checks_now, ', ')));
  end if;
  perform set_config('lull.cleaning', v_cleaning, true);
  if p_made.checks_later <> '{}' then
    perform lull.defer_constraints(p_made.checks_later);
  end if;
  return lull.check_deleted(p_made, p_tabs, v_relations, v_deleted, v_updated);
end
$$;

-- Compare what was deleted since the counters were read (Postgres' own, by table) with the places. Raises when a table
-- of the cascade lost another number of rows, or a table beside it lost rows or links. Returns what went elsewhere.
create or replace function lull.check_deleted(
  p_made lull.compiled_policies, p_tabs oid[], p_relations oid[], p_deleted bigint[], p_updated bigint[])
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_wrong record;
  v_elsewhere jsonb;
begin
  select d.relation::regclass as tab, d.deleted, d.expected, d.updated into v_wrong
  from (
    select u.relation, pg_stat_get_xact_tuples_deleted(u.relation) - u.deleted as deleted,
      pg_stat_get_xact_tuples_updated(u.relation) - u.updated as updated, coalesce(e.expected, 0) as expected
    from unnest(p_relations, p_deleted, p_updated) u (relation, deleted, updated)
    left join (select t.tab, count(*) as expected from unnest(p_tabs) t (tab) group by t.tab) e on e.tab = u.relation
    where u.relation = any (p_made.counted)
  ) d
  where d.deleted <> d.expected or (not p_made.has_triggers and d.updated > d.expected)
  limit 1;
  if found and v_wrong.deleted < v_wrong.expected then
    raise exception 'the database deleted % of % rows of % without an error: a trigger keeps the rest',
      v_wrong.deleted, v_wrong.expected, v_wrong.tab;
  elsif found and v_wrong.deleted > v_wrong.expected then
    raise exception 'the database deleted % rows of %, and % of them were judged', v_wrong.deleted, v_wrong.tab,
      v_wrong.expected;
  elsif found then
    raise exception '% rows of % lost a link to the rows that went', v_wrong.updated, v_wrong.tab;
  end if;
  if not p_made.has_triggers then
    return '{}';
  end if;
  select coalesce(jsonb_object_agg(d.relation::regclass::text, d.deleted), '{}') into v_elsewhere
  from (
    select u.relation, pg_stat_get_xact_tuples_deleted(u.relation) - u.deleted as deleted
    from unnest(p_relations, p_deleted) u (relation, deleted)
    where u.relation <> all (p_made.counted)
  ) d
  where d.deleted > 0;
  return v_elsewhere;
end
$$;
