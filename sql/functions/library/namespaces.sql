-- Library, namespaces: who may use one, its lock, and how many items it holds.

-- Refuse a namespace that is not the caller's: 404, as if it were empty.
create or replace function lull.check_namespace(p_namespace text, p_caller jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if not coalesce((p_caller ->> 'service')::boolean, false)
    and p_namespace is distinct from 'user:' || (p_caller ->> 'user_id')
  then
    perform lull.no_such_item();
  end if;
end
$$;

-- Lock a namespace's counter, and count p_writes against the caller's hourly limit. p_limits: {"writes_per_hour",
-- "most_items"}, null where none holds. Raises 429 when the limit would be passed; then nothing is counted.
create or replace function lull.lock_namespace(p_namespace text, p_writes integer, p_limits jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text := 'library:' || p_namespace;
  v_most integer := (p_limits ->> 'writes_per_hour')::integer;
begin
  perform lull.lock_counters(array[v_key]);
  perform lull.count_hourly(v_key, 'library-writes-per-hour', p_writes, v_most);
end
$$;

-- Refuse (409) an item that would be one too many in its namespace. The caller holds the namespace's counter.
create or replace function lull.check_item_count(p_namespace text, p_limits jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if lull.is_namespace_full(p_namespace, p_limits) then
    perform lull.refuse(409, 'too-many-items',
      format('A namespace can have %s items, and this one has them. Nothing was changed; delete one first.',
        p_limits ->> 'most_items'),
      jsonb_build_object('limit', (p_limits ->> 'most_items')::integer)::text);
  end if;
end
$$;

-- Whether a namespace has as many items as it can have; deleted ones do not count.
create or replace function lull.is_namespace_full(p_namespace text, p_limits jsonb)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((p_limits ->> 'most_items')::bigint <= (
    select count(*) from lull.library_items i where i.namespace = p_namespace and i.deleted_at is null), false);
$$;
