"""Checks of the cleanup in operation: its schedule, the result of runs, removed files, delivered events."""

from datetime import UTC, datetime, timedelta

from api.doctor.check_result import CheckResult, fail, ok, warn
from api.doctor.schemas import CronJob, DatabaseState
from api.http.cleanup_facts import CleanupFacts
from api.http.sentences import shown, some

_A_FEW_LOOKS = 2  # so many dry runs before the first run are a person's; more may be a scheduler's
_POST = 'let the scheduler send POST, with "Authorization: Bearer $CRON_SECRET"'
_LONGEST_PENDING = timedelta(hours=6)


def check_schedule(
    facts: CleanupFacts, database_state: DatabaseState, dry_runs: int | None, since: datetime | None
) -> list[CheckResult]:
    """A scheduler calls, and its calls execute the cleanup.

    `dry_runs` is the number of dry runs that this process answered since it started; None when not counted.
    """
    found = [result for job in database_state.cron_jobs or [] for result in _cron_job(job)]
    if facts.late:
        found.append(_late(facts, dry_runs, since))
    elif dry_runs and facts.last_started_at is None:
        message = f"{dry_runs} GETs were answered with a dry run, and no run began yet."
        judge = warn if dry_runs <= _A_FEW_LOOKS else fail
        found.append(judge("schedule", message, f"if that was the scheduler: {_POST}"))
    if found:
        return found
    if facts.last_started_at is None:
        return [ok("schedule", f"no run yet; one is expected every {facts.interval_minutes} minutes")]
    callers = some([f"{each.caller} {each.runs}" for each in database_state.callers])
    return [ok("schedule", f"the last run began at {shown(facts.last_started_at)}; in 30 days: {callers}")]


def _late(facts: CleanupFacts, dry_runs: int | None, since: datetime | None) -> CheckResult:
    sentence = facts.lateness() or ""
    if facts.paused_since:
        return fail("schedule", sentence, "delete from lull.switches where name = 'cleanup'")
    if facts.last_started_at and facts.late_since and facts.late_since < facts.last_started_at:
        return fail("schedule", sentence, "schedule POST /api/admin/cleanup-sessions without ?policy=")
    if dry_runs:
        sentence += (
            f" This process answered {dry_runs} GETs with a dry run since {since:%Y-%m-%dT%H:%M:%SZ}; "
            "dry runs by an operator are counted, too."
        )
    fix = (
        "read the scheduler's log: no call at all (on Vercel: Settings > Cron Jobs), "
        f"401 (another secret), or 200 to a GET: {_POST}"
    )
    return fail("schedule", sentence, fix)


def _cron_job(job: CronJob) -> list[CheckResult]:
    name = f'pg_cron job "{job.name}" ({job.schedule})'
    if job.does == "dry-run":
        message = f"{name} sends a GET, which only dry-runs."
        return [fail("schedule", message, "use net.http_post in it (infra/supabase/pg_cron.sql)")]
    if not job.active:
        fix = "select cron.alter_job(<jobid>, active => true); the number is in cron.job"
        return [warn("schedule", f"{name} is switched off.", fix)]
    if job.last_status == "failed":
        fix = "select return_message from cron.job_run_details order by runid desc limit 5"
        return [fail("schedule", f"{name} failed at its last time.", fix)]
    return []


def check_runs(facts: CleanupFacts) -> list[CheckResult]:
    """How the last runs ended, and whether each policy had one."""
    found = []
    if facts.paused_since:
        fix = "delete from lull.switches where name = 'cleanup'"
        found.append(warn("runs", f"The cleanup is paused since {shown(facts.paused_since)}.", fix))
    if facts.lease_expired:
        fix = "POST /api/admin/cleanup-sessions: a new run takes over; then read the log of the one that went silent"
        found.append(fail("runs", facts.obstruction() or "", fix))
    if sentence := facts.failure():
        fix = "POST /api/admin/cleanup-sessions and read the report: it says which policy, and why"
        if facts.last_status == "stopped":
            fix = "read the dry run; if it is right, POST …?policy=<name>&maxRows=<rows> lets it through"
        found.append(fail("runs", sentence, fix))
    if facts.dead_files:
        fix = (
            "select bucket, path, last_error from lull.file_removals where dead_at is not null; then, to try "
            "again, update lull.file_removals set dead_at = null, attempts = 0 where dead_at is not null"
        )
        message = f"{facts.dead_files} files could not be removed from Storage and were given up."
        found.append(fail("runs", message, fix))
    if found:
        return found
    if facts.last_status is None:
        return [ok("runs", "none yet")]
    return [ok("runs", f"the last ended at {shown(facts.last_finished_at)}: {facts.last_status}")]


def check_deliveries(database_state: DatabaseState) -> list[CheckResult]:
    """Events that the webhook's receiver did not accept, and a log that no reader can follow."""
    queue = database_state.deliveries
    if queue.restored:
        message = "The event log is from a dump of another cluster: its transaction ids lie ahead of this one's."
        return [fail("events", message, "make migrate: it counts what is there as committed")]
    if queue.dead:
        fix = "select event_id, last_error from lull.deliveries where state = 'dead'"
        return [warn("events", f"{queue.dead} events were given up within 30 days.", fix)]
    oldest = queue.oldest_pending_at
    if oldest and _moment(database_state.at) - _moment(oldest) > _LONGEST_PENDING:
        message = f"{queue.pending} events wait to be delivered, the oldest since {shown(oldest)}."
        return [warn("events", message, "is the receiver up? POST /api/admin/deliver says what it answers")]
    return [ok("events", f"{queue.pending} wait to be delivered")]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
