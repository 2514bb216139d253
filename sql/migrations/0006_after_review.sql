-- What a review of the first runs asked for.

-- When a policy was last worked on, finished or not: one that never gets to its end must not stay first for ever.
alter table lull.cleanup_run_policies add column opened_at timestamptz;
create index cleanup_run_policies_opened on lull.cleanup_run_policies (policy, opened_at);

-- Settling renews the lease now, so it takes the token.
do $$
begin
  if to_regprocedure('public.lull_settle_file_removals(uuid, bigint[], jsonb)') is not null then
    drop function public.lull_settle_file_removals(uuid, bigint[], jsonb);
  end if;
end
$$;
