-- Cleanup, the lease: one run at a time, for as long as it renews.

-- Make the run that holds the lease from now on, or say why there is none. A run whose lease ran out is abandoned.
create or replace function lull.take_lease(
  p_caller text, p_lease_seconds integer, out o_run lull.cleanup_runs, out o_refusal jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_running lull.cleanup_runs;
begin
  loop
    select * into v_running from lull.cleanup_runs where status = 'running';
    if found and v_running.lease_until > clock_timestamp() then
      o_refusal := jsonb_build_object('started', false, 'reason', 'running', 'since', v_running.started_at,
        'run_id', v_running.id, 'message', format(
          'Run %s is already running since %s. This call changed nothing.',
          v_running.id, lull.utc(v_running.started_at)));
      return;
    end if;
    -- Waits for a batch that is about to renew the lease; renewed, it is not abandoned.
    update lull.cleanup_runs
    set status = 'abandoned', finished_at = clock_timestamp()
    where status = 'running' and lease_until <= clock_timestamp();
    if found then
      perform lull.count_run(v_running.id);
    end if;
    begin
      insert into lull.cleanup_runs (caller, at, lease_seconds, lease_until)
      values (p_caller, now(), p_lease_seconds, clock_timestamp() + make_interval(secs => p_lease_seconds))
      returning * into o_run;
      return;
    exception
      when unique_violation then
        null;  -- another begin was first: look again
      when lock_not_available then
        o_refusal := jsonb_build_object('started', false, 'reason', 'running', 'since', now(), 'run_id', null,
          'message', 'Another run is under way in a transaction of its own. This call changed nothing.');
        return;
    end;
  end loop;
end
$$;

-- Prove that the caller still holds the lease, without waiting or locking. Raises 409 `lease-lost`.
create or replace function lull.check_lease(p_run uuid, p_token uuid)
returns lull.cleanup_runs
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_run lull.cleanup_runs;
begin
  select * into v_run from lull.cleanup_runs
  where id = p_run and token = p_token and status = 'running' and lease_until > clock_timestamp();
  if not found then
    perform lull.refuse(409, 'lease-lost',
      format('Run %s does not hold the lease any more. This call changed nothing.', p_run));
  end if;
  return v_run;
end
$$;

-- Prove the lease again and renew it. The last statement of every transaction of a run: a run that was taken over
-- meanwhile fails here and commits nothing. Locks the run's row only until the commit that follows.
create or replace function lull.renew_lease(p_run uuid, p_token uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  update lull.cleanup_runs
  set lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
  where id = p_run and token = p_token and status = 'running' and lease_until > clock_timestamp();
  if not found then
    perform lull.check_lease(p_run, p_token);
  end if;
end
$$;

-- Renew the lease without doing anything else: a run calls it when a time-out has undone the renewal of a batch.
create or replace function public.lull_renew_lease(p_run uuid, p_token uuid)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '5s'
set timezone = 'UTC'
as $$
begin
  perform lull.require_server();
  perform lull.renew_lease(p_run, p_token);
  return (select jsonb_build_object('lease_until', lease_until) from lull.cleanup_runs where id = p_run);
end
$$;
