-- Core, restore: its end. What could not come back stays archived in a remainder, with its reasons.

-- End a restore: what could not come back becomes a remainder, the keys leave their pages, pages without a key go, the
-- sessions that are back are as old as this moment, and the event log is told. Links of others that waited for these
-- rows are mended.
create or replace function lull.settle_restore(
  p_pages bigint[], p_roots integer[], p_entries jsonb, p_rows lull.archived_row[], p_notes text[],
  out o_restored integer, out o_missing integer, out o_roots integer, out o_reasons text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_page lull.archive_pages;
  v_inserted integer[];
  v_of_target integer[];
  v_back integer[];
  v_keys text[];
begin
  select * into v_page from lull.archive_pages where id = p_pages[1];
  select coalesce(array_agg(e.n), '{}'),
    coalesce(array_agg(e.n) filter (where to_regclass(e.entry ->> 'table') = to_regclass(v_page.target)), '{}')
  into v_inserted, v_of_target
  from jsonb_array_elements(p_entries) with ordinality e (entry, n) where e.entry -> 'keys' = 'null';
  select count(*) filter (where u.reason is null and u.tab = any (v_inserted)),
    count(*) filter (where u.reason <> ''),
    coalesce(array_agg(distinct u.reason) filter (where u.reason <> ''), '{}') || p_notes
  into o_restored, o_missing, o_reasons
  from unnest(p_rows) u;
  v_back := array(select distinct u.root from unnest(p_rows) u where u.reason is null and u.tab = any (v_of_target));
  v_keys := array(
    select distinct k.key from lull.archive_keys k
    where k.page = any (p_pages) and k.target = v_page.target and k.root in (select unnest(v_back)));
  o_roots := cardinality(v_keys);
  if exists (select 1 from unnest(p_rows) u where u.reason is not null) then
    perform lull.keep_remainder(v_page, p_pages, p_entries,
      array(select u from unnest(p_rows) u where u.reason is not null), o_reasons);
  end if;
  perform lull.note_restored(v_page, v_keys, o_restored, o_missing);
  delete from lull.archive_keys where page = any (p_pages) and root in (select unnest(p_roots));
  delete from lull.archive_pages p
  where p.id = any (p_pages) and not exists (select 1 from lull.archive_keys k where k.page = p.id);
  perform lull.restore_awaiting(v_page.target, v_keys, v_page.batch);
end
$$;

-- Put rows that could not come back into a page of their own, with the reasons and a new window as long as the first.
-- Its keys are those of the rows' roots, and of archived rows that they wait for: a restore of either tries again.
create or replace function lull.keep_remainder(
  p_page lull.archive_pages, p_pages bigint[], p_entries jsonb, p_rows lull.archived_row[], p_reasons text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint := nextval('lull.archive_pages_id_seq');
begin
  insert into lull.archive_pages (id, batch, run_id, policy, target, kind, reasons, rows, content, purge_after)
  select v_id, v_id, p_page.run_id, p_page.policy, p_page.target, 'remainder', p_reasons, sum(x.n), json_agg(
    jsonb_strip_nulls(x.entry) || jsonb_build_object('rows', x.docs) order by x.tab),
    now() + (p_page.purge_after - p_page.archived_at)
  from (
    select u.tab, p_entries -> (u.tab - 1) as entry, count(*) as n,
      jsonb_agg(to_jsonb(array[u.root::text] || u.cells) order by u.i) as docs
    from unnest(p_rows) with ordinality u (tab, root, cells, reason, i)
    group by u.tab
  ) x;
  insert into lull.archive_keys (page, target, key, owner, root, reason)
  select distinct on (k.target, k.key) v_id, k.target, k.key, k.owner, k.root, u.reason
  from lull.archive_keys k
  join (
    select r.root, string_agg(distinct nullif(r.reason, ''), '; ') as reason from unnest(p_rows) r group by r.root
  ) u on u.root = k.root
  where k.page = any (p_pages)
  order by k.target, k.key;
  insert into lull.archive_keys (page, target, key, root)
  select v_id, a.target, a.key, min(a.root)
  from lull.awaited_keys(p_entries, p_rows) a
  group by a.target, a.key
  on conflict (page, target, key) do nothing;
end
$$;

-- The archived keys that rows refer to.
create or replace function lull.awaited_keys(p_entries jsonb, p_rows lull.archived_row[])
returns table (target text, key text, root integer)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with entry as (
    select e.n, to_regclass(e.entry ->> 'table') as tab,
      array(select jsonb_array_elements_text(e.entry -> 'columns')) as columns
    from jsonb_array_elements(p_entries) with ordinality e (entry, n)
    where e.n in (select u.tab from unnest(p_rows) u)
  ), link as (
    select e.n, t.target, t.places
    from entry e
    join pg_catalog.pg_constraint f on f.contype = 'f' and f.conparentid = 0 and f.conrelid = e.tab
    cross join lateral lull.key_of_parent(f.oid, e.columns) t
    where array_position(t.places, null) is null
  )
  select l.target, k.key, u.root
  from link l
  join unnest(p_rows) u on u.tab = l.n
  join lull.archive_keys k on k.target = l.target and k.key = case cardinality(l.places)
    when 1 then u.cells[l.places[1]]
    else (select jsonb_agg(u.cells[x] order by i)::text from unnest(l.places) with ordinality y (x, i)) end;
$$;

-- Try remainders again that waited for rows which are back.
create or replace function lull.restore_awaiting(p_target text, p_keys text[], p_batch bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_batch bigint;
begin
  for v_batch in
    select distinct p.batch
    from unnest(p_keys) back (key)
    cross join lateral (  -- `offset 0`: key by key, by the index, whatever is known of the table
      select k.page from lull.archive_keys k where k.target = p_target and k.key = back.key offset 0) k
    join lull.archive_pages p on p.id = k.page
    where p.kind = 'remainder' and p.batch <> p_batch
    order by 1
  loop
    perform lull.restore_batch(v_batch, p_target, p_keys);
  end loop;
end
$$;

-- What a restore leaves beside the rows: a session that is back was used this moment, a team's row keeps its clock and
-- gets a hold of one age of its policy, so that no run takes it at once; and the `restored` event.
create or replace function lull.note_restored(
  p_page lull.archive_pages, p_keys text[], p_restored integer, p_missing integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_event lull.session_events;
  v_request text := lull.request_id();
  v_broadcasts boolean := to_regprocedure('realtime.send(jsonb, text, text, boolean)') is not null;
  v_data jsonb := jsonb_build_object('run', p_page.run_id) || case
    when cardinality(p_keys) = 1 then jsonb_build_object('children', p_restored - 1) else '{}' end || case
    when p_missing > 0 then jsonb_build_object('missing', p_missing) else '{}' end;
  v_age interval := (select age from lull.policies where name = split_part(p_page.policy, ':', 1));
begin
  if p_restored > 0 then
    insert into lull.restores (run_id, policy, roots, rows)
    values (p_page.run_id, p_page.policy, cardinality(p_keys), p_restored);
  end if;
  if p_page.target <> 'lull.sessions' then
    insert into lull.holds (target, key, reason, until)
    select p_page.target, k, 'restored', now() + v_age from unnest(p_keys) k where v_age > interval '0'
    on conflict (target, key) do update set until = greatest(holds.until, excluded.until)
    where holds.until is not null;
    perform lull.append_own_events(p_page.target, p_keys, 'restored', v_data);
    return;
  end if;
  for v_event in
    with moved as (  -- those whose clock a trigger set back, or that came back without it
      update lull.sessions set last_activity_at = now()
      where id = any (p_keys::uuid[]) and last_activity_at < now()
    )
    insert into lull.session_events (session_id, kind, event, data, request_id)
    select s.id, s.kind, 'restored', v_data, v_request
    from lull.sessions s where s.id = any (p_keys::uuid[]) order by s.id
    returning *
  loop
    exit when not v_broadcasts;
    perform lull.broadcast(v_event);
  end loop;
end
$$;
