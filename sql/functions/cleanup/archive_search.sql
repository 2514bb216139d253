-- Cleanup, the archive's contents: find rows that can be restored.

-- Find archived rows, newest page first: of an owner (an id, or an email of auth.users), of a target, with a text in
-- the row itself (letters of any case); each null: all. An owner and an exact id are looked up by an index; for any
-- other text pages are read from the newest for up to p_seconds a call. At most p_limit rows (1 to 200) and 900,000
-- bytes. Returns {"archived": [{"target", "key", "owner", "policy", "kind", "reason", "archived_at", "purge_after",
-- "page", "row": {...}}], "cursor": for the next call, null when all was read, "scanned_back": how far back it was
-- read}. `row` is null in a remainder without the row itself.
create or replace function public.lull_search_archive(
  p_owner text default null, p_target text default null, p_text text default null, p_limit integer default 20,
  p_cursor jsonb default null, p_seconds double precision default 5)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '15s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_until timestamptz := clock_timestamp() + make_interval(secs => p_seconds);
  v_owner uuid := case when p_owner is not null then lull.owner_by_name(p_owner) end;
  v_found jsonb := case when p_text is not null and p_cursor is null
    then lull.archived_by_key(v_owner, p_target, p_text, p_limit) else '[]' end;
  v_page record;
  v_fit jsonb;
  v_scanned timestamptz;
  v_cursor jsonb := p_cursor;
  v_done boolean := true;
  v_read integer := 0;
begin
  for v_page in select * from lull.pages_to_search(v_owner, p_target, (p_cursor ->> 'page')::bigint) loop
    v_done := false;
    v_cursor := coalesce(v_cursor, jsonb_build_object('page', v_page.id));
    exit when jsonb_array_length(v_found) >= p_limit or v_read > 0 and clock_timestamp() > v_until;
    v_read := v_read + 1;
    v_found := v_found || lull.archived_in_page(v_page.id, v_owner, p_target, p_text, p_limit + 1,
      case when v_page.id = (p_cursor ->> 'page')::bigint then p_cursor ->> 'key' end);
    v_scanned := v_page.archived_at;
    v_cursor := jsonb_build_object('page', v_page.id - 1);
    v_done := true;
  end loop;
  v_fit := lull.fit_page(v_found, p_limit);
  if jsonb_array_length(v_fit) < jsonb_array_length(v_found) then
    v_cursor := jsonb_build_object('page', v_fit -> -1 -> 'page', 'key', v_fit -> -1 -> 'key');
    v_scanned := (v_fit -> -1 ->> 'archived_at')::timestamptz;
    v_done := false;
  end if;
  return jsonb_build_object('archived', v_fit, 'cursor', case when not v_done then v_cursor end,
    'scanned_back', case when not v_done then v_scanned end);
end
$$;

-- The same with an owner's id, as SQL and the service call it.
create or replace function public.lull_find_archived(
  p_owner uuid default null, p_target text default null, p_text text default null, p_limit integer default 20,
  p_cursor jsonb default null)
returns jsonb
language sql
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '15s'
as $$
  select public.lull_search_archive(
    p_owner::text, p_target, p_text, least(greatest(coalesce(p_limit, 20), 1), 200), p_cursor);
$$;

-- The pages to read, newest first, from p_from on: those of an owner by its index, else all.
create or replace function lull.pages_to_search(p_owner uuid, p_target text, p_from bigint)
returns table (id bigint, archived_at timestamptz)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_owner is not null then
    return query
      select p.id, p.archived_at from lull.archive_pages p
      where p.id in (select k.page from lull.archive_keys k where k.owner = p_owner)
        and (p_from is null or p.id <= p_from)
      order by p.id desc;
  else
    return query
      select p.id, p.archived_at from lull.archive_pages p
      where (p_from is null or p.id <= p_from) and (p_target is null or p.target = p_target)
      order by p.id desc;
  end if;
end
$$;

-- The rows with exactly this key, newest page first.
create or replace function lull.archived_by_key(p_owner uuid, p_target text, p_key text, p_limit integer)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(d.document order by k.page desc), '[]')
  from (
    select * from lull.archive_keys k
    where k.target = any (array(select g.name from lull.targets g where p_target is null or g.name = p_target))
      and k.key = p_key and (p_owner is null or k.owner = p_owner)
    order by k.page desc limit p_limit
  ) k
  cross join lateral jsonb_array_elements(
    lull.archived_in_page(k.page, null, k.target, null, 1, null, k.key)) d (document);
$$;

-- The rows of one page that lull_search_archive looks for, behind a key, at most p_limit; p_key: that one. What has the
-- text as its key is left out: it was found first.
create or replace function lull.archived_in_page(
  p_page bigint, p_owner uuid, p_target text, p_text text, p_limit integer, p_after text, p_key text default null)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(x.document order by x.key), '[]')
  from (
    select k.key, jsonb_build_object(
      'target', k.target, 'key', k.key, 'owner', k.owner, 'policy', p.policy, 'run_id', p.run_id, 'kind', p.kind,
      'reason', k.reason, 'archived_at', p.archived_at, 'purge_after', p.purge_after, 'page', p.id, 'row', r.document)
      as document
    from lull.archive_pages p
    join lull.archive_keys k on k.page = p.id and (p_owner is null or k.owner = p_owner)
      and (p_target is null or k.target = p_target) and (p_after is null or k.key > p_after)
      and (p_key is null or k.key = p_key)
    left join lateral (
      select x.root, jsonb_object(x.columns, x.cells) - '{owner_token_hash,client_hash}'::text[] as document
      from lull.page_rows(p.content, null) x
      where x.tab = p.target and x.keys is null
    ) r on r.root = k.root and k.target = p.target
    where p.id = p_page and (p_text is null or k.key <> p_text and r.document::text ilike
      '%' || replace(replace(replace(p_text, '\', '\\'), '%', '\%'), '_', '\_') || '%')
    order by k.key limit p_limit
  ) x;
$$;
