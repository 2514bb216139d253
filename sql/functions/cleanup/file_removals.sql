-- Cleanup, files: the outbox of bytes. A row enters it in the transaction that ends the possibility of a restore
-- (core/archive.sql) and leaves it when Storage has confirmed that the object is gone.

-- Take up to p_limit due removals for a run; each is handed out once per run. A path that a live file has again is
-- dropped from the outbox instead. Renews the lease. Returns {"removals": [{"id", "bucket", "path"}], "cancelled"}.
create or replace function public.lull_claim_file_removals(p_run uuid, p_token uuid, p_limit integer)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
set lock_timeout = '500ms'
as $$
declare
  v_server constant name := lull.require_server();
  v_claimed bigint[];
  v_cancelled integer;
  v_removals jsonb;
begin
  perform lull.check_lease(p_run, p_token);
  with due as (
    select id from lull.file_removals
    where dead_at is null and not_before <= now() and claimed_by is distinct from p_run
    order by not_before, id
    limit least(p_limit, 1000)
    for update skip locked
  ), claimed as (
    update lull.file_removals r
    set claimed_by = p_run
    from due
    where r.id = due.id
    returning r.id
  )
  select array_agg(id) into v_claimed from claimed;
  delete from lull.file_removals r
  where r.id = any (v_claimed)
    and (exists (select 1 from lull.session_files f where f.bucket = r.bucket and f.path = r.path)
      or exists (select 1 from lull.library_versions v where v.bucket = r.bucket and v.path = r.path));
  get diagnostics v_cancelled = row_count;
  select coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'bucket', r.bucket, 'path', r.path) order by r.id), '[]')
  into v_removals
  from lull.file_removals r
  where r.id = any (v_claimed);
  perform lull.renew_lease(p_run, p_token);
  return jsonb_build_object('removals', v_removals, 'cancelled', v_cancelled);
end
$$;

-- Record what Storage said of claimed removals: p_done are gone for certain, p_failed ([{"id", "error"}]) stay queued
-- and become dead letters after ten such answers (an outage of Storage is no answer). Renews the lease when
-- it is still held, and counts without it too: the bytes are gone in any case.
create or replace function public.lull_settle_file_removals(
  p_run uuid, p_token uuid, p_done bigint[], p_failed jsonb)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '10s'
as $$
declare
  v_server constant name := lull.require_server();
  c_attempts constant integer := 10;
  v_removed integer;
  v_failed integer;
  v_dead integer;
begin
  update lull.cleanup_runs
  set lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
  where id = p_run and token = p_token and status = 'running' and lease_until > clock_timestamp();
  delete from lull.file_removals where id = any (p_done);
  get diagnostics v_removed = row_count;
  with failed as (
    update lull.file_removals r
    set attempts = r.attempts + 1, last_error = f.error,
      dead_at = case when r.attempts + 1 >= c_attempts then now() end
    from jsonb_to_recordset(coalesce(p_failed, '[]')) as f (id bigint, error text)
    where r.id = f.id and r.claimed_by = p_run
    returning r.dead_at
  )
  select count(*), count(dead_at) into v_failed, v_dead from failed;
  return jsonb_build_object('removed', v_removed, 'failed', v_failed, 'dead', v_dead);
end
$$;
