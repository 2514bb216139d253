-- Core: rows that the release before archived, one a root, in lull.archive. They are moved into pages: by a restore the
-- one it wants, by each run some. After a rollback to that release its functions find the rest where they left it.

-- Move rows of lull.archive, those that are due first, into pages. Returns how many.
create or replace function lull.move_older_archive(p_most integer)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_ids bigint[];
begin
  if not exists (select 1 from lull.archive) then
    return 0;
  end if;
  v_ids := array(
    select id from lull.archive order by purge_after, id limit p_most for update skip locked);
  perform lull.move_older_rows(v_ids);
  return cardinality(v_ids);
end
$$;

-- Move locked rows of lull.archive into pages, one page a root. Each column's text form is what it was.
create or replace function lull.move_older_rows(p_ids bigint[])
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  with moved as (
    delete from lull.archive where id = any (p_ids) returning *
  ), numbered as materialized (
    select nextval('lull.archive_pages_id_seq') as page, m.* from (select * from moved order by id) m
  ), page_row as (
    select n.page, 0 as place, 0::bigint as part, 0::bigint as m, n.target as tab, n."row" as doc from numbered n
    union all
    select n.page, 1, c.ord, r.ord, c.value ->> 'table', r.value
    from numbered n
    cross join lateral jsonb_array_elements(n.children) with ordinality c (value, ord)
    cross join lateral jsonb_array_elements(c.value -> 'rows') with ordinality r (value, ord)
  ), entry as (
    select r.page, r.place, min(r.part) as part, r.tab, x.columns, json_agg(x.cells order by r.part, r.m) as rows,
      count(*) as n
    from page_row r
    cross join lateral (
      select array_agg(e.key order by e.key) as columns,
        to_json(array['1'] || array_agg(e.value order by e.key)) as cells
      from jsonb_each_text(r.doc) e
    ) x
    group by r.page, r.place, r.tab, x.columns
  ), page as (
    insert into lull.archive_pages (id, batch, run_id, policy, target, rows, content, archived_at, purge_after)
    select n.page, n.page, n.run_id, n.policy, n.target, c.rows, c.content, n.archived_at, n.purge_after
    from numbered n
    join (
      select e.page, sum(e.n) as rows, json_agg(json_build_object('table', e.tab, 'columns', e.columns, 'rows', e.rows)
        order by e.place, e.part) as content
      from entry e group by e.page
    ) c on c.page = n.page
  )
  insert into lull.archive_keys (page, target, key, owner, root)
  select n.page, n.target, n.key, (n."row" ->> case n.target when 'lull.sessions' then 'owner_id'
    else (select to_jsonb(g) ->> 'owner_column' from lull.targets g where g.name = n.target) end)::uuid, 1
  from numbered n;
$$;

-- Move what the older archive has under a key into a page.
create or replace function lull.move_older_key(p_target text, p_key text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform lull.move_older_rows(array(
    select id from lull.archive where target = p_target and key = p_key for update));
end
$$;
