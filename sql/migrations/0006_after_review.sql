-- What a review of the first runs asked for.

-- When a policy was last worked on, finished or not: one that never gets to its end must not stay first for ever.
alter table lull.cleanup_run_policies add column opened_at timestamptz;
create index cleanup_run_policies_opened on lull.cleanup_run_policies (policy, opened_at);

-- Settling renews the lease now, so it takes the token.
drop function if exists public.lull_settle_file_removals(uuid, bigint[], jsonb);
