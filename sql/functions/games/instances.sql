-- Games: instances, the processes that own games. A start of a process is an incarnation: a row whose lease is that of
-- all games that name it. A lease that ran out is over, whether its games were taken or not.
--
-- Leases are compared with clock_timestamp() under the row's lock: now() is when a transaction began, which may be long
-- before it got the lock.

-- Open an instance, and close the incarnation before it: its games can be recovered at once.
--   p_instance  the name of the process, the same after a restart
--   p_seconds   how long the lease runs without a renewal
-- Locks the incarnation before it. Returns {"incarnation", "lease_until"}.
create or replace function public.lull_open_instance(p_instance text, p_seconds integer)
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
  v_instance lull.instances;
begin
  loop
    update lull.instances set closed_at = clock_timestamp() where id = p_instance and closed_at is null;
    insert into lull.instances (id, lease_seconds, lease_until)
    values (p_instance, p_seconds, clock_timestamp() + make_interval(secs => p_seconds))
    on conflict (id) where closed_at is null do nothing
    returning * into v_instance;
    exit when found;  -- else another call opened it meanwhile
  end loop;
  return jsonb_build_object('incarnation', v_instance.incarnation, 'lease_until', v_instance.lease_until);
end
$$;

-- Renew the lease of an instance's games: one row. Raises 409 when the lease is over. Locks that row.
-- Returns {"lease_until", "displaced": ids of games that were taken by force, "orphans": games that can be recovered,
-- counted up to 1,000}.
create or replace function public.lull_renew_instance(
  p_instance text, p_incarnation bigint, p_recovery_limit integer)
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
  v_until timestamptz;
begin
  perform 1 from lull.instances where incarnation = p_incarnation for no key update;
  if not lull.is_leased(p_incarnation, p_instance) then
    perform lull.instance_closed();
  end if;
  update lull.instances
  set lease_until = greatest(lease_until, clock_timestamp() + make_interval(secs => lease_seconds))
  where incarnation = p_incarnation
  returning lease_until into v_until;
  return jsonb_build_object('lease_until', v_until, 'orphans', (lull.count_orphans(p_recovery_limit)).orphans,
    'displaced', (
      select coalesce(jsonb_agg(distinct d.session_id), '[]') from lull.displacements d
      where d.incarnation = p_incarnation and not exists (
        select 1 from lull.sessions s where s.id = d.session_id and s.incarnation = p_incarnation)));
end
$$;

-- Close an instance that stops: its games can be recovered at once. Idempotent. Locks its row. Returns {"closed"}:
-- whether this call closed it.
create or replace function public.lull_close_instance(p_instance text, p_incarnation bigint)
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
begin
  update lull.instances set closed_at = clock_timestamp()
  where incarnation = p_incarnation and id = p_instance and closed_at is null;
  return jsonb_build_object('closed', found);
end
$$;

-- Whether the lease of an incarnation runs now. p_instance: only under this name. Certain while the caller holds a lock
-- of the row; volatile, so that each call reads the clock and the row anew.
create or replace function lull.is_leased(p_incarnation bigint, p_instance text default null)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
    select 1 from lull.instances i
    where i.incarnation = p_incarnation and i.id = coalesce(p_instance, i.id)
      and i.closed_at is null and i.lease_until > clock_timestamp());
end
$$;

-- Refuse because an instance's lease is over: 409. Never returns.
create or replace function lull.instance_closed()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform lull.refuse(409, 'instance-closed',
    'The lease of this instance is over, and its games may have another owner. Nothing was changed; '
    || 'stop its games, open the instance again, and recover.');
end
$$;
