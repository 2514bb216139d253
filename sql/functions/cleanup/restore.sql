-- Cleanup, undo: bring back what a run archived, one key, or everything of an owner, in one call each. Over HTTP it is
-- done in steps (undo.sql); archive_search.sql finds what is archived.

-- Bring back what a run archived (of one policy or line, when given), oldest batch first, up to p_limit roots or for 20
-- s in one call. Remainders of earlier restores are tried again. A restored session's clock is this moment. Returns
-- {"restored": roots, "children": rows below them, "missing": rows that stay archived, "reasons", "remaining": roots
-- that this call did not come to}.
create or replace function public.lull_restore_run(p_run uuid, p_policy text default null, p_limit integer default 1000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '30s'
as $$
declare
  v_server constant name := lull.require_server();
  v_until timestamptz := clock_timestamp() + interval '20 seconds';
  v_batch record;
  v_keys text[];
  v_one record;
  v_restored integer := 0;
  v_rows integer := 0;
  v_missing integer := 0;
  v_reasons text[] := '{}';
  v_left integer := greatest(p_limit, 0);
begin
  perform lull.move_older_rows(array(
    select id from lull.archive where run_id = p_run and (p_policy is null or policy = p_policy)
    order by id limit v_left for update));
  for v_batch in
    select p.batch, p.target from lull.archive_pages p
    where p.run_id = p_run and (p_policy is null or p.policy = p_policy)
    group by p.batch, p.target
    order by p.batch
  loop
    exit when v_left <= 0 or clock_timestamp() > v_until;
    v_keys := array(
      select distinct k.key from lull.archive_keys k join lull.archive_pages q on q.id = k.page
      where q.batch = v_batch.batch and k.target = v_batch.target order by k.key limit v_left);
    select * into v_one from lull.restore_batch(v_batch.batch, v_batch.target, v_keys);
    continue when v_one.o_restored is null;
    v_left := v_left - cardinality(v_keys);
    v_restored := v_restored + v_one.o_roots;
    v_rows := v_rows + v_one.o_restored;
    v_missing := v_missing + v_one.o_missing;
    v_reasons := v_reasons || v_one.o_reasons;
  end loop;
  if v_missing > 0 and v_rows > 0 then
    select r.* into v_missing, v_reasons from lull.restore_remainders(p_run, v_missing, v_reasons, v_until) r;
  end if;
  return jsonb_build_object(
    'restored', v_restored, 'children', v_rows - v_restored, 'missing', v_missing,
    'reasons', array(select distinct r from unnest(v_reasons) r order by r),
    'remaining', lull.count_archived(p_run, p_policy));
end
$$;

-- How many rows of a run stand in remainders of this transaction, and why.
create or replace function lull.fresh_remainders(p_run uuid, out rows bigint, out reasons text[])
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with page as (
    select * from lull.archive_pages p where p.run_id = p_run and p.kind = 'remainder' and p.archived_at = now()
  )
  select (select coalesce(sum(p.rows), 0) from page p), array(select distinct r from page p, unnest(p.reasons) r);
$$;

-- Try what could not come back in this transaction once more: later pages of the run may have brought what it refers
-- to. Returns how many rows are missing then, and the reasons that are left.
create or replace function lull.restore_remainders(
  p_run uuid, p_missing integer, p_reasons text[], p_until timestamptz,
  out o_missing integer, out o_reasons text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_before bigint;
  v_after bigint;
  v_solved text[];
  v_left text[];
  v_page record;
begin
  select u.rows, u.reasons into v_before, v_solved from lull.fresh_remainders(p_run) u;
  for v_page in
    select p.batch, p.target from lull.archive_pages p
    where p.run_id = p_run and p.kind = 'remainder' and p.archived_at = now() order by p.id
  loop
    exit when clock_timestamp() > p_until;
    perform lull.restore_batch(v_page.batch, v_page.target, null);
  end loop;
  select u.rows, u.reasons into v_after, v_left from lull.fresh_remainders(p_run) u;
  o_missing := case when v_after = 0 then 0 else greatest(p_missing - (v_before - v_after), 1) end;
  o_reasons := array(select r from unnest(p_reasons) r where r <> all (v_solved) or r = any (v_left));
end
$$;

-- How many roots of a run no restore has come to.
create or replace function lull.count_archived(p_run uuid, p_policy text)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select (
      select count(*)
      from (
        select from lull.archive_pages p
        join lull.archive_keys k on k.page = p.id and k.target = p.target
        where p.run_id = p_run and p.kind = 'batch' and (p_policy is null or p.policy = p_policy)
        group by p.batch, k.key
      ) root
    ) + (
      select count(*) from lull.archive where run_id = p_run and (p_policy is null or policy = p_policy));
$$;

-- Bring back what is archived under one key, of any owner. Returns {"restored": rows, "missing", "reasons"}; 404
-- when the archive does not hold it.
create or replace function public.lull_restore_key(p_target text, p_key text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '30s'
as $$
declare
  v_server constant name := lull.require_server();
  v_answer jsonb := lull.restore_key(p_target, p_key, '{"service": true}');
begin
  if v_answer is null then
    perform lull.refuse(404, 'not-found', format('The archive holds no row of %s with the key %s.', p_target, p_key));
  end if;
  return v_answer;
end
$$;

-- Bring back everything of an owner, oldest first, up to p_limit keys or for 20 s in one call. Returns {"keys",
-- "restored": rows, "missing", "reasons", "remaining": keys not come to}.
create or replace function public.lull_restore_owner(p_owner uuid, p_limit integer default 1000)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '30s'
as $$
declare
  v_server constant name := lull.require_server();
  v_until timestamptz := clock_timestamp() + interval '20 seconds';
  v_keys integer := 0;
  v_restored integer := 0;
  v_missing integer := 0;
  v_reasons text[] := '{}';
  v_key record;
  v_answer jsonb;
  v_all integer;
begin
  perform lull.move_older_rows(array(
    select id from lull.archive
    where target = 'lull.sessions' and (row ->> 'owner_id')::uuid = p_owner order by id limit p_limit for update));
  v_all := (select count(*) from (select distinct target, key from lull.archive_keys where owner = p_owner) k);
  for v_key in
    select target, key from lull.archive_keys where owner = p_owner
    group by target, key order by min(page), key limit p_limit
  loop
    exit when clock_timestamp() > v_until;
    v_answer := lull.restore_key(v_key.target, v_key.key, jsonb_build_object('user_id', p_owner));
    v_keys := v_keys + 1;
    v_restored := v_restored + coalesce((v_answer ->> 'restored')::integer, 0);
    v_missing := v_missing + coalesce((v_answer ->> 'missing')::integer, 0);
    v_reasons := v_reasons || array(select jsonb_array_elements_text(coalesce(v_answer -> 'reasons', '[]')));
  end loop;
  return jsonb_build_object('keys', v_keys, 'restored', v_restored, 'missing', v_missing,
    'reasons', array(select distinct r from unnest(v_reasons) r order by r), 'remaining', v_all - v_keys);
end
$$;
