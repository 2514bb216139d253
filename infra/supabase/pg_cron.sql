-- Lull's cleanup inside the database, by pg_cron: no function platform and no server needed.
--
-- After `python -m infra migrate`, paste this file into the Supabase SQL editor (or psql), as the role that migrated
-- (`postgres` on Supabase: the jobs run as it). It can be run again at any time: it replaces its own jobs, and
-- touches no others.
--
--   lull-cleanup           every minute a step of at most 2000 rows or two seconds, while a run is due or in progress;
--                          the 15 is minutes between runs: the same number as CLEANUP_INTERVAL_MINUTES
--   lull-sweep             every minute: warns of sessions that expire soon, and tells who went away; deletes nothing. Its
--                          numbers are PRESENCE_UPDATE_SECONDS and LEAVE_GRACE_SECONDS
--   lull-cleanup-watch     every five minutes: fails while the last run is not good, so that cron.job_run_details is
--                          red (a step itself stays green: an exception would roll back the report that it stored)
--   lull-roll-up           every 15 minutes: adds the new events up by day, for the statistics
--   lull-cleanup-history   every night: deletes rows of cron.job_run_details about these jobs after a week
--   lull-cleanup-files     every hour, where pg_net and Vault are: asks the API for a run, see below
--
-- Another scheduler may run beside it: one run at a time, and the next one is due an interval after the last.
--
-- What happened:  select * from lull.cleanup_runs order by started_at desc limit 10;
--                 select * from cron.job_run_details order by start_time desc limit 10;
-- A step by hand: select public.lull_cleanup_step();
-- To stop:        select cron.unschedule(jobname) from cron.job where jobname like 'lull-%';

begin;

create extension if not exists pg_cron;

do $$
begin
  if to_regprocedure('public.lull_cleanup_step(integer, integer)') is null then
    raise exception 'Lull is not in this database, or an older release of it: run `python -m infra migrate` first.';
  elsif exists (select 1 from pg_settings where name = 'cron.use_background_workers' and setting = 'on') then
    raise warning 'cron.use_background_workers is on: pg_cron does not stop a step that takes too long. Turn it off.';
  end if;
end
$$;

-- Two statements: a time-out holds from the statement that follows it.
select cron.schedule('lull-cleanup', '* * * * *',
  $$set statement_timeout = '30s'; select public.lull_cleanup_step(2000, 15)$$);

select cron.schedule('lull-sweep', '* * * * *',
  $$set statement_timeout = '30s'; select public.lull_sweep(30, 10, 2000)$$);

select cron.schedule('lull-cleanup-watch', '*/5 * * * *',
  $$select public.lull_watch_cleanup()$$);

select cron.schedule('lull-roll-up', '*/15 * * * *',
  $$set statement_timeout = '30s'; select public.lull_roll_up()$$);

select cron.schedule('lull-cleanup-history', '23 3 * * *',
  $$delete from cron.job_run_details
    where start_time < now() - interval '7 days'
      and jobid in (select jobid from cron.job where jobname like 'lull-%' and username = current_user)$$);

-- Files and webhooks. A step removes rows; the bytes of purged files wait in lull.file_removals, and a webhook's events
-- in the event log, until a run over HTTP, because SQL can do neither. Where there is an API, give its address and its
-- CRON_SECRET to Vault, once, and run this file again:
--
--   select vault.create_secret('https://your-project.vercel.app', 'lull_api_url');
--   select vault.create_secret('the CRON_SECRET', 'lull_cron_secret');
--
-- The secret is read each time: a rotation is `select vault.update_secret(id, 'the new one') from vault.secrets where
-- name = 'lull_cron_secret'`. pg_net does not wait for the answer: it is in net._http_response for some hours.
do $$
begin
  if to_regprocedure('net.http_post(text, jsonb, jsonb, jsonb, integer)') is null
    or to_regclass('vault.decrypted_secrets') is null
  then
    raise notice 'pg_net or Vault is not here: bytes of files are left to a run over HTTP.';
  elsif (select count(*) from vault.decrypted_secrets where name in ('lull_api_url', 'lull_cron_secret')) < 2 then
    raise notice 'Vault has no lull_api_url and lull_cron_secret: bytes of files are left to a run over HTTP.';
  else
    perform cron.schedule('lull-cleanup-files', '7 * * * *', $job$
      select net.http_post(
        url := rtrim(address.decrypted_secret, '/') || '/api/admin/cleanup-sessions',
        headers := jsonb_build_object(
          'Content-Type', 'application/json', 'Authorization', 'Bearer ' || secret.decrypted_secret),
        timeout_milliseconds := 60000)
      from vault.decrypted_secrets address, vault.decrypted_secrets secret
      where address.name = 'lull_api_url' and secret.name = 'lull_cron_secret'
    $job$);
  end if;
end
$$;

commit;
