-- Since when a policy is known. Health calls the cleanup late for each policy by itself: a run of another policy is no
-- run of this one. Before a policy's first run, its clock starts here.
create table lull.policies_known (
  policy text primary key,
  since timestamptz not null default now()
);
insert into lull.policies_known (policy, since)
select p.name, (select min(m.applied_at) from lull.migrations m) from lull.policies p;
