-- Games: recovery. A game is an orphan when it is active, within its timeout, and the lease of its incarnation is over.
-- A game that was recovered p_recovery_limit times without a command is passed over: it may be what makes its owners
-- crash. It can still be claimed, and goes by its timeout.

-- Make an instance the owner of up to p_limit orphans: those of its own name first, then those whose lease ended first,
-- each oldest first. A page has at most 900,000 bytes of states, one game at least. Rows that another call holds are
-- left to it, and nothing is waited for. Raises 409 when the caller's lease is over. Locks instances, then sessions.
-- Returns {"sessions", "more": orphans that are left, those of other calls included, "passed_over"}, both counted up to
-- 1,000.
create or replace function public.lull_recover_sessions(
  p_instance text, p_incarnation bigint, p_limit integer, p_recovery_limit integer)
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
  v_sessions jsonb := '[]';
  v_bytes bigint := 0;
  v_over bigint;
  v_part record;
begin
  perform 1 from lull.instances where incarnation = p_incarnation for share;
  if not lull.is_leased(p_incarnation, p_instance) then
    perform lull.instance_closed();
  end if;
  for v_over in
    select i.incarnation from lull.instances i
    where i.incarnation <> p_incarnation and (i.closed_at is not null or i.lease_until <= clock_timestamp())
      and exists (
        select 1 from lull.sessions s
        where s.incarnation = i.incarnation and s.kind = 'game' and s.status = 'active')
    order by i.id = p_instance desc, least(i.lease_until, i.closed_at), i.incarnation
    for share of i skip locked
  loop
    select * into v_part from lull.take_orphans(v_over, p_instance, p_incarnation,
      p_limit - jsonb_array_length(v_sessions), 900000 - v_bytes, p_recovery_limit);
    v_sessions := v_sessions || v_part.o_sessions;
    v_bytes := v_bytes + v_part.o_bytes;
    exit when v_part.o_is_full;
  end loop;
  select jsonb_build_object('sessions', v_sessions, 'more', c.orphans, 'passed_over', c.passed_over)
  into v_sessions
  from lull.count_orphans(p_recovery_limit) c;
  return v_sessions;
end
$$;

-- Take orphans of one incarnation: at most p_limit, with at most p_bytes of states and metadata; a first one may be
-- larger where p_bytes is what a page has. The caller holds the instance's lock. Returns the games, their bytes, and
-- whether the page is full.
create or replace function lull.take_orphans(
  p_from bigint, p_instance text, p_incarnation bigint, p_limit integer, p_bytes bigint, p_recovery_limit integer,
  out o_sessions jsonb, out o_bytes bigint, out o_is_full boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_game lull.sessions;
  v_bytes integer;
begin
  o_sessions := '[]'; o_bytes := 0; o_is_full := p_limit <= 0;
  if o_is_full then
    return;
  end if;
  for v_game in
    select s.* from lull.sessions s
    where s.incarnation = p_from and s.kind = 'game' and s.status = 'active' and s.recoveries < p_recovery_limit
      and not lull.is_expired(s)
    order by s.created_at, s.id
    limit p_limit
    for no key update of s skip locked
  loop
    v_bytes := octet_length(v_game.state::text) + octet_length(v_game.metadata::text) + 1000;
    o_is_full := o_bytes + v_bytes > p_bytes and (o_bytes > 0 or p_bytes < 900000);
    exit when o_is_full;
    o_bytes := o_bytes + v_bytes;
    update lull.sessions
    set incarnation = p_incarnation, instance_id = p_instance, fence = fence + 1, recoveries = recoveries + 1
    where id = v_game.id
    returning * into v_game;
    perform lull.append_game_event(v_game.id, 'recovered',
      jsonb_build_object('instance', p_instance, 'fence', v_game.fence));
    o_sessions := o_sessions || lull.game_json(v_game);
  end loop;
  o_is_full := o_is_full or jsonb_array_length(o_sessions) >= p_limit;
end
$$;

-- How many orphans there are, and how many games are passed over, each counted up to 1,000. Locks nothing, so it counts
-- what other calls hold.
create or replace function lull.count_orphans(
  p_recovery_limit integer, out orphans bigint, out passed_over bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_over bigint[] := array(
    select incarnation from lull.instances where closed_at is not null or lease_until <= clock_timestamp());
begin
  select count(*) into orphans from (
    select 1 from lull.sessions s
    where s.incarnation = any (v_over) and s.kind = 'game' and s.status = 'active'
      and s.recoveries < p_recovery_limit and not lull.is_expired(s)
    limit 1000) o;
  select count(*) into passed_over from (
    select 1 from lull.sessions s
    where s.incarnation = any (v_over) and s.kind = 'game' and s.status = 'active'
      and s.recoveries >= p_recovery_limit and not lull.is_expired(s)
    limit 1000) p;
end
$$;
