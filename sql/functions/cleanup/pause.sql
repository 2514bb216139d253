-- Cleanup, the pause: an operator stops all policies or one, without a deploy.

-- Pause all policies (p_policy null) or one, for a reason, until p_until or for good. A pause that is in effect keeps
-- its beginning and gets the new reason and end. 422 for an unknown policy and an end that is past. A run in flight
-- ends each paused policy at its next batch. Returns all pauses, as lull_pauses does.
create or replace function public.lull_pause_cleanup(p_policy text, p_reason text, p_until timestamptz default null)
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
begin
  if p_policy is not null and not exists (select 1 from lull.policies where name = p_policy) then
    perform lull.refuse_field('policy', format('must be one of %s',
      (select string_agg(name, ', ' order by position) from lull.policies)));
  elsif p_until <= now() then
    perform lull.refuse_field('until', 'must be in the future');
  end if;
  insert into lull.switches as s (name, is_on, reason, until, changed_at)
  values (concat_ws(':', 'cleanup', p_policy), true, p_reason, p_until, now())
  on conflict (name) do update set is_on = true, reason = excluded.reason, until = excluded.until,
    changed_at = case when s.is_on and (s.until is null or s.until > now()) then s.changed_at else now() end;
  return public.lull_pauses();
end
$$;

-- End the pause of all policies (p_policy null) or of one; nothing to end is no error. Returns the pauses that are
-- left.
create or replace function public.lull_unpause_cleanup(p_policy text)
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
begin
  update lull.switches set is_on = false, changed_at = now()
  where name = concat_ws(':', 'cleanup', p_policy) and is_on;
  return public.lull_pauses();
end
$$;

-- The pauses in effect: {"pauses": [{"policy" (null: all), "since", "until", "reason"}]}.
create or replace function public.lull_pauses()
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set statement_timeout = '5s'
set timezone = 'UTC'
as $$
  select lull.require_server();
  select jsonb_build_object('pauses', coalesce(jsonb_agg(jsonb_build_object(
    'policy', nullif(substr(p.name, 9), ''), 'since', p.changed_at, 'until', p.until, 'reason', p.reason)
    order by p.name), '[]'))
  from lull.pauses() p;
$$;
