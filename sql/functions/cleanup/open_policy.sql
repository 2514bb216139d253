-- Cleanup, the opening of a policy in a run: its cutoff is frozen, it is previewed, and the breaker decides.

-- Open a policy of a run: freeze its cutoff, preview it, let the breaker decide. Returns the preview with "outcome":
-- `open`, `completed` (it has no stale row), `stopped` (nothing of the policy will be touched), `failed`, or `shadow`
-- in a run that only watches. Renews the lease.
create or replace function public.lull_open_policy(p_run uuid, p_token uuid, p_policy text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '30s'
set lock_timeout = '2s'
set timezone = 'UTC'
set datestyle = 'ISO'
set extra_float_digits = '1'
as $$
declare
  v_server constant name := lull.require_server();
  v_run lull.cleanup_runs := lull.check_lease(p_run, p_token);
  v_line lull.cleanup_run_policies;
  v_policy lull.policy_definition;
  v_preview jsonb;
  v_outcome text := 'open';
  v_reason text; v_selection text;
begin
  select * into v_line from lull.cleanup_run_policies where run_id = p_run and policy = p_policy for update;
  if not found then
    perform lull.refuse(422, 'invalid-parameter', format('Run %s has no policy "%s".', p_run, p_policy));
  end if;
  v_policy := lull.read_definition(v_line.definition, v_line.position);
  select o_reason, o_selection into v_reason, v_selection from lull.check_selection(v_policy, v_run.at);
  v_reason := coalesce(v_reason, case
    when v_line.adoption <> lull.adoption_of(v_policy.target) then 'its adoption was changed after the run began; '
      'nothing of it was touched; the next run goes by the new one' end);
  if v_reason is not null then
    v_preview := lull.uncounted_preview(v_policy, v_run.at, v_reason);
    v_outcome := 'failed';
  else
    v_preview := lull.preview_definition(v_policy, v_run.at, v_selection);
    v_preview := v_preview || lull.breaker_of(v_policy, v_preview, v_line.allowed);
    if v_run.mode = 'shadow' then
      v_outcome := 'shadow';
      perform lull.note_shadow_rows(v_run, v_policy);
    elsif v_preview ->> 'stop' is not null and v_line.only_key is null then
      v_outcome := 'stopped';
    elsif v_preview -> 'would' = '0' then
      v_outcome := 'completed';  -- most policies most nights: nothing to compile, and no batch
    elsif v_line.outcome = 'pending' then
      perform lull.compile_policy(p_run, p_policy, v_policy, v_line.only_key);
    end if;
  end if;
  if v_line.outcome = 'pending' then
    perform lull.note_opened(v_line, v_preview, v_outcome, v_reason);
  else
    v_outcome := v_line.outcome;  -- the answer to the first call was lost: its decision stands
  end if;
  perform lull.renew_lease(p_run, p_token);
  return v_preview || jsonb_build_object('outcome', v_outcome);
end
$$;

-- Store what was decided when a policy was opened.
create or replace function lull.note_opened(
  p_line lull.cleanup_run_policies, p_preview jsonb, p_outcome text, p_reason text)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.cleanup_run_policies
  set opened_at = clock_timestamp(), cutoff = (p_preview ->> 'cutoff')::timestamptz,
    would = (p_preview ->> 'would')::bigint, capped = (p_preview ->> 'capped')::boolean,
    would_cascade = p_preview -> 'cascaded', would_files = (p_preview ->> 'files')::bigint,
    would_oldest = (p_preview ->> 'oldest')::timestamptz,
    allowed = case when p_line.only_key is null then (p_preview ->> 'limit')::bigint else allowed end,
    outcome = p_outcome, stop_reason = p_preview ->> 'stop_reason', error = p_reason,
    completed_at = case when p_outcome <> 'open' then clock_timestamp() end
  where run_id = p_line.run_id and policy = p_line.policy;
$$;
