-- Cleanup, undo over HTTP: a restore in steps, each one transaction of about a second, until a time budget is used up.
--
--   lull_restore_step   the next batches of what is to be restored (core/restore.sql does each)
--   lull_restore_rest   what is left, and what could not come back
--
-- A scope says what is to be restored: {"run", "policy"?, "ids"?}, {"owner"} or {"target", "ids"}. Steps go through
-- the batches up to the newest page of the beginning: what a step leaves as a remainder, the same pass does not try
-- again.

-- Restore the next batches of a scope behind p_after, up to p_upto, for p_seconds (one batch at least). Without p_upto
-- the restore begins: the scope is checked (404 unknown, 410 purged), and rows of the older archive are moved into
-- pages. p_again: only remainders, once more. A batch that others have locked for 1 s is counted in "busy" and passed
-- over. Returns {"restored": roots, "children": rows below them, "busy": roots, "reasons", "after", "upto", "done"}.
create or replace function public.lull_restore_step(
  p_scope jsonb, p_after bigint default 0, p_upto bigint default null, p_again boolean default false,
  p_seconds double precision default 1)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '60s'
set lock_timeout = '1s'
as $$
declare
  v_server constant name := lull.require_server();
  v_until timestamptz := clock_timestamp() + make_interval(secs => p_seconds);
  v_scope jsonb := lull.resolved_scope(p_scope);
  v_upto bigint := p_upto;
  v_after bigint := p_after;
  v_done boolean := true;
  v_batch record;
  v_one record;
  v_seen integer := 0;
  v_restored integer := 0;
  v_rows integer := 0;
  v_busy bigint := 0;
  v_reasons text[] := '{}';
begin
  if v_upto is null then
    perform lull.move_older_scope(v_scope);
    if not p_again then
      perform lull.check_scope(v_scope);
    end if;
    v_upto := (select coalesce(max(id), 0) from lull.archive_pages);
  end if;
  for v_batch in select * from lull.batches_of_scope(v_scope, p_after, v_upto, p_again) loop
    if v_seen > 0 and clock_timestamp() > v_until then
      v_done := false;
      exit;
    end if;
    begin
      v_one := lull.restore_batch(v_batch.batch, v_batch.target, v_batch.keys);
      v_restored := v_restored + coalesce(v_one.o_roots, 0);
      v_rows := v_rows + coalesce(v_one.o_restored, 0);
      v_reasons := v_reasons || coalesce(v_one.o_reasons, '{}');
    exception when lock_not_available or deadlock_detected or serialization_failure then
      v_busy := v_busy + coalesce(cardinality(v_batch.keys), (
        select count(distinct k.key) from lull.archive_pages p
        join lull.archive_keys k on k.page = p.id and k.target = p.target where p.batch = v_batch.batch));
    end;
    v_after := v_batch.batch;
    v_seen := v_seen + 1;
  end loop;
  return jsonb_build_object('restored', v_restored, 'children', v_rows - v_restored, 'busy', v_busy,
    'reasons', array(select distinct r from unnest(v_reasons) r order by r limit 20),
    'after', v_after, 'upto', v_upto, 'done', v_done and v_seen < 50);
end
$$;

-- Why a key that the archive does not hold is not back: null when its row is there.
create or replace function lull.missing_reason(p_target text, p_key text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if lull.has_row(p_target, p_key, false) then
    return null;
  elsif exists (select 1 from lull.key_tombstones t where t.target = p_target and t.key = p_key)
    or p_target = 'lull.sessions' and exists (
      select 1 from lull.tombstones t
      where t.session_id = case when lull.is_uuid(p_key) then p_key::uuid end)
  then
    return 'purged: it is gone for good';
  end if;
  return 'the archive does not hold it';
end
$$;

-- What is left of a scope, and what could not come back since the page p_since: {"remaining": roots that no step came
-- to, "missing": [{"target", "key", "reason"}] (at most 100), "missing_total"}.
create or replace function public.lull_restore_rest(p_scope jsonb, p_since bigint)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
as $$
declare
  v_server constant name := lull.require_server();
  v_scope jsonb := lull.resolved_scope(p_scope);
  v_ids text[] := array(select jsonb_array_elements_text(v_scope -> 'ids'));
  v_run uuid := (p_scope ->> 'run')::uuid;
  v_missing jsonb;
  v_remaining bigint;
  v_total bigint;
begin
  with held as materialized (
    select * from lull.keys_of_scope(v_scope)
  ), lost as (
    select h.target, h.key, max(h.reason) as reason from held h
    where h.kind = 'remainder' and h.page > p_since and h.reason is not null group by h.target, h.key
    union all
    select v_scope ->> 'target', i, lull.missing_reason(v_scope ->> 'target', i) from unnest(v_ids) i
    where v_scope ? 'target' and not exists (select 1 from held h where h.key = i)
      and lull.missing_reason(v_scope ->> 'target', i) is not null
  )
  select (select count(distinct (h.batch, h.target, h.key)) from held h where h.kind = 'batch'),
    (select count(*) from lost), (
    select coalesce(jsonb_agg(to_jsonb(l) order by l.target, l.key), '[]')
    from (select * from lost order by target, key limit 100) l)
  into v_remaining, v_total, v_missing;
  v_remaining := v_remaining + case when v_run is null then 0 else (
    select count(*) from lull.archive a where a.run_id = v_run) end;
  return jsonb_build_object('remaining', v_remaining, 'missing', v_missing, 'missing_total', v_total);
end
$$;
