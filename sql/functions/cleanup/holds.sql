-- Cleanup, holds: a row that no policy takes, by an operator's word. A batch reads lull.holds when it selects a row and
-- again under the row's lock, so that a hold whose transaction locked the row first is in time.

-- Hold a row. Locks it `for key share`: waits for a batch that is taking it, and for no writer of the team's. Raises
-- 422 for a target that has no holds, an end that is past and a row that is held already, 409 `row-gone` (with the
-- archive's page) for an archived row, 404 for one that never was. Returns {"hold"}.
create or replace function public.lull_hold_row(
  p_target text, p_key text, p_reason text, p_until timestamptz default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
set lock_timeout = '9s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_hold lull.holds;
begin
  perform lull.check_target(p_target);
  if p_until <= now() then
    perform lull.refuse_field('until', 'must be in the future');
  elsif not lull.has_row(p_target, p_key, true) then
    perform lull.refuse_gone(p_target, p_key);
  end if;
  insert into lull.holds as h (target, key, reason, until)
  values (p_target, lull.key_as_stored(p_target, p_key), p_reason, p_until)
  on conflict (target, key) do update
    set reason = excluded.reason, until = excluded.until, created_at = now()
    where h.until <= now()
  returning * into v_hold;
  if v_hold.target is null then
    perform lull.refuse_field('key', (
      select format('is held already since %s%s: %s', lull.utc(h.created_at),
        coalesce(' until ' || lull.utc(h.until), ''), h.reason)
      from lull.holds h where h.target = p_target and h.key = lull.key_as_stored(p_target, p_key)));
  end if;
  return jsonb_build_object('hold', to_jsonb(v_hold));
end
$$;

-- End a hold; 404 when there is none. Returns {"hold"}: what it was.
create or replace function public.lull_release_row(p_target text, p_key text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '8s'
set lock_timeout = '5s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_hold lull.holds;
begin
  delete from lull.holds
  where target = p_target and key in (p_key, lull.key_as_stored(p_target, p_key)) returning * into v_hold;
  if v_hold.target is null then
    perform lull.refuse(404, 'not-found', format('There is no hold on the row %s of %s.', p_key, p_target));
  end if;
  return jsonb_build_object('hold', to_jsonb(v_hold));
end
$$;

-- The holds in effect, of one target or all, in the order of target and key behind the cursor {"target", "key"}:
-- {"holds": [...], "next"}.
create or replace function public.lull_list_holds(p_target text default null, p_limit integer default 100,
  p_cursor jsonb default null)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  with found as (
    select h.* from lull.holds h
    where (p_target is null or h.target = p_target) and (h.until is null or h.until > now())
      and (p_cursor is null or (h.target, h.key) > (p_cursor ->> 'target', p_cursor ->> 'key'))
    order by h.target, h.key limit p_limit + 1
  ), page as (
    select lull.fit_page((select coalesce(jsonb_agg(to_jsonb(f) order by f.target, f.key), '[]') from found f), p_limit)
      as items
  )
  select jsonb_build_object('holds', p.items, 'next', case
    when jsonb_array_length(p.items) < (select count(*) from found)
    then jsonb_build_object('target', p.items -> -1 ->> 'target', 'key', p.items -> -1 ->> 'key') end)
  from page p;
$$;

-- Refuse a target whose rows an operator cannot hold or restore (422).
create or replace function lull.check_target(p_target text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_names text[] := array(
    select name from lull.targets
    where not builtin or name in ('lull.sessions', 'lull.user_sessions') order by not builtin, name);
begin
  if p_target <> all (v_names) then
    perform lull.refuse_field('target', 'must be one of ' || array_to_string(v_names, ', '));
  end if;
end
$$;

-- Refuse because a row is not there: 409 when it was archived or purged, else 404. Never returns.
create or replace function lull.refuse_gone(p_target text, p_key text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_page record;
begin
  select p.id, p.purge_after into v_page
  from lull.archive_keys k join lull.archive_pages p on p.id = k.page
  where k.target = p_target and k.key = lull.key_as_stored(p_target, p_key) order by p.id desc limit 1;
  if found then
    perform lull.refuse(409, 'row-gone', format('The row %s of %s was archived before. Nothing was held: restore it '
      'with POST /api/admin/archive/restore first.', p_key, p_target),
      jsonb_build_object('page', v_page.id, 'purgeAfter', lull.utc(v_page.purge_after))::text);
  elsif lull.missing_reason(p_target, p_key) like 'purged%' then
    perform lull.refuse(409, 'row-gone', format('The row %s of %s was purged: it is gone for good.', p_key, p_target),
      '{"page": null}');
  end if;
  perform lull.refuse(404, 'not-found', format('%s has no row with the key %s.', p_target, p_key));
end
$$;

-- The condition that a row aliased t has this key: by the types of the columns, so that the key's index serves. Raises
-- data_exception for a text that no value of the types has.
create or replace function lull.key_condition(p_target text, p_key text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('t.%I %s %L::%s', k.name, lull.equality(c.type::regtype), k.value, c.type), ' and ')
  from lull.targets g
  cross join lateral unnest(g.key_columns, lull.key_values(p_key, g.name)) k (name, value)
  join lull.table_columns(g.name::regclass) c on c.name = k.name
  where g.name = p_target
  having count(*) = max(cardinality(g.key_columns));
$$;

-- A key as Lull stores it: a UUID in lower case, a number without a leading zero. The text as it is where no value of
-- the columns' types has it.
create or replace function lull.key_as_stored(p_target text, p_key text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text;
begin
  if not exists (
    select 1 from lull.targets
    where name = p_target and (not builtin or name in ('lull.sessions', 'lull.user_sessions')))
  then
    return p_key;
  end if;
  execute (
    select format('select case count(*) when 1 then min(x.v) else jsonb_agg(x.v order by x.n)::text end from (%s) x',
      string_agg(format('select %s as n, %L::%s::text as v', k.n, k.value, c.type), ' union all '))
    from lull.targets g
    cross join lateral unnest(g.key_columns, lull.key_values(p_key, g.name)) with ordinality k (name, value, n)
    join lull.table_columns(g.name::regclass) c on c.name = k.name
    where g.name = p_target)
  into v_key;
  return coalesce(v_key, p_key);
exception when data_exception or check_violation or undefined_table then
  return p_key;
end
$$;

-- Whether a target has a row with this key; p_lock: locked `for key share`.
create or replace function lull.has_row(p_target text, p_key text, p_lock boolean)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_one integer;
begin
  execute format('select 1 from %s where %s%s', lull.from_table(p_target::regclass, 't'),
    lull.key_condition(p_target, p_key), case when p_lock then ' for key share' else '' end)
  into v_one;
  return v_one is not null;
exception when data_exception or check_violation or undefined_table then
  return false;
end
$$;
