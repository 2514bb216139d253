-- The least age that a run's caller may give a policy. Null: the stored age itself. Each migrate writes it.
alter table lull.policy_rules add column least_age interval;
