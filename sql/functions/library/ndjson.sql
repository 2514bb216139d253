-- The library as NDJSON: a page of a namespace out, and a page of lines in. Both can be repeated.

-- A page of the items that are there, by key after p_after, with their documents: at most p_limit, and about p_bytes. A
-- file is described; its bytes are not in it. Returns {"items", "next": the last key or null}.
create or replace function public.lull_export_items(
  p_namespace text, p_caller jsonb, p_after text, p_limit integer, p_bytes integer)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  c_of_a_line constant integer := 700;  -- key, times and a file's description, without the document
  v_page jsonb;
begin
  perform lull.check_namespace(p_namespace, p_caller);
  with page as (
    select i.key, i.version, row_number() over (order by i.key) as n,
      sum(v.size * (v.document is not null)::integer + c_of_a_line) over (order by i.key) as bytes
    from (
      select * from lull.library_items x
      where x.namespace = p_namespace and x.key > coalesce(p_after, '') and x.deleted_at is null
      order by x.key
      limit p_limit + 1
    ) i
    join lull.library_versions v on v.namespace = p_namespace and v.key = i.key and v.version = i.version
  ), fits as (
    select * from page where n = 1 or n <= p_limit and bytes <= p_bytes
  )
  select jsonb_build_object(
    'items', (
      select coalesce(jsonb_agg(lull.item_json(v, null, true) order by f.key), '[]')
      from fits f
      join lull.library_versions v on v.namespace = p_namespace and v.key = f.key and v.version = f.version),
    'next', (select max(key) from fits having (select count(*) from page) > count(*)))
  into v_page;
  return v_page;
end
$$;

-- Write lines of an export: [{"line", "key", "document" or "file": {"sha256"}}], each key once. A document that is not
-- there is created; one that equals the current version writes nothing; one that differs is kept as it is, or with
-- p_replace written as a new version. A file's bytes are not in a line: it is unchanged where the current version has
-- them, and else refused. Locks the namespace's counter, then the items in key order; raises 429 before it writes
-- anything. Returns {"lines": [{"line", "key", "outcome", "version"}]} in the order of the lines.
create or replace function public.lull_import_items(
  p_namespace text, p_caller jsonb, p_lines jsonb, p_replace boolean, p_limits jsonb default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_line jsonb;
  v_answers jsonb[] := '{}';
begin
  perform lull.check_namespace(p_namespace, p_caller);
  perform lull.lock_namespace(p_namespace, jsonb_array_length(p_lines), p_limits);
  for v_line in
    select l from jsonb_array_elements(p_lines) l order by (l ->> 'key') collate "C"
  loop
    v_answers := v_answers || (jsonb_build_object('line', v_line -> 'line', 'key', v_line -> 'key')
      || lull.import_line(p_namespace, v_line, p_replace, p_limits));
  end loop;
  return jsonb_build_object('lines', (
    select coalesce(jsonb_agg(a order by (a ->> 'line')::integer), '[]') from unnest(v_answers) a));
end
$$;

-- Write one line of an import; the caller holds the namespace's counter. Refuses nothing by an exception. Returns
-- {"outcome", "version": the current one, null without one}.
create or replace function lull.import_line(p_namespace text, p_line jsonb, p_replace boolean, p_limits jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_item lull.library_items;
  v_version lull.library_versions;
  v_is_new boolean;
begin
  select * into v_item from lull.library_items
  where namespace = p_namespace and key = p_line ->> 'key'
  for no key update;
  v_is_new := v_item.key is null or v_item.deleted_at is not null;
  select * into v_version from lull.library_versions v
  where not v_is_new and v.namespace = p_namespace and v.key = v_item.key and v.version = v_item.version;
  if v_version.document = p_line -> 'document' or v_version.sha256 = p_line #>> '{file,sha256}' then
    return jsonb_build_object('outcome', 'unchanged', 'version', v_version.version);
  elsif p_line -> 'document' is null then
    return jsonb_build_object('outcome', 'bytes-missing', 'version', v_version.version);
  elsif octet_length((p_line -> 'document')::text) > lull.largest_document() then
    return jsonb_build_object('outcome', 'too-large', 'version', v_version.version);
  elsif not v_is_new and not p_replace then
    return jsonb_build_object('outcome', 'kept', 'version', v_version.version);
  elsif v_is_new and lull.is_namespace_full(p_namespace, p_limits) then
    return jsonb_build_object('outcome', 'too-many-items', 'version', null);
  elsif v_item.key is null then
    insert into lull.library_items (namespace, key, deleted_at) values (p_namespace, p_line ->> 'key', now())
    returning * into v_item;
  end if;
  v_version := lull.write_version(v_item, lull.document_version(p_line -> 'document'));
  return jsonb_build_object('outcome', case when v_is_new then 'created' else 'written' end,
    'version', v_version.version);
end
$$;
