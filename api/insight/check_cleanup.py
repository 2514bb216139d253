"""Checks of the cleanup's life: a scheduler that executes, runs that end well, files and events that go."""

from datetime import UTC, datetime, timedelta

from api.insight.health import CleanupFacts
from api.insight.inspection import CronJob, Inspection
from api.insight.verdict import Verdict, fail, ok, shown, some, warn

_A_FEW_LOOKS = 2  # dry runs before the first run that are surely a person's; more may be a scheduler's
_POST = 'let the scheduler send POST, with "Authorization: Bearer $CRON_SECRET"'
_LONGEST_PENDING = timedelta(hours=6)


def check_schedule(
    facts: CleanupFacts, inspection: Inspection, dry_runs: int | None, since: datetime | None
) -> list[Verdict]:
    """Something calls, and what it calls executes.

    `dry_runs` were answered by this process since it began; None where nobody counted.
    """
    found = [verdict for job in inspection.cron_jobs or [] for verdict in _cron_job(job)]
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
    callers = some([f"{who.caller} {who.runs}" for who in inspection.callers])
    return [ok("schedule", f"the last run began at {shown(facts.last_started_at)}; in 30 days: {callers}")]


def _late(facts: CleanupFacts, dry_runs: int | None, since: datetime | None) -> Verdict:
    sentence = facts.lateness() or ""
    if facts.paused_since:
        return fail("schedule", sentence, "delete from lull.switches where name = 'cleanup'")
    if dry_runs:
        counted = f"This process answered {dry_runs} GETs with a dry run since {since:%Y-%m-%dT%H:%M:%SZ}."
        return fail("schedule", f"{sentence} {counted}", _POST)
    mend = (
        "read the scheduler's log: no call at all (on Vercel: Settings > Cron Jobs), "
        f"401 (another secret), or 200 to a GET: {_POST}"
    )
    return fail("schedule", sentence, mend)


def _cron_job(job: CronJob) -> list[Verdict]:
    name = f'pg_cron job "{job.name}" ({job.schedule})'
    if job.does == "dry-run":
        message = f"{name} sends a GET, which only dry-runs."
        return [fail("schedule", message, "use net.http_post in it (infra/supabase/pg_cron.sql)")]
    if not job.active:
        mend = "select cron.alter_job(<jobid>, active => true); the number is in cron.job"
        return [warn("schedule", f"{name} is switched off.", mend)]
    if job.last_status == "failed":
        mend = "select return_message from cron.job_run_details order by runid desc limit 5"
        return [fail("schedule", f"{name} failed at its last time.", mend)]
    return []


def check_runs(facts: CleanupFacts, inspection: Inspection) -> list[Verdict]:
    """How the last runs ended, and whether each policy had one."""
    found = []
    if facts.paused_since:
        mend = "delete from lull.switches where name = 'cleanup'"
        found.append(warn("runs", f"The cleanup is paused since {shown(facts.paused_since)}.", mend))
    if facts.lease_expired:
        mend = "POST /api/admin/cleanup-sessions: a new run takes over; then read the silent one's log"
        found.append(fail("runs", facts.obstruction() or "", mend))
    if sentence := facts.failure():
        mend = "POST /api/admin/cleanup-sessions and read the report: it says which policy, and why"
        if facts.last_status == "stopped":
            mend = "read the dry run; if it is right, POST …?policy=<name>&maxRows=<rows> lets it through"
        found.append(fail("runs", sentence, mend))
    found += _neglected(facts, inspection)
    if facts.dead_files:
        mend = (
            "select bucket, path, last_error from lull.file_removals where dead_at is not null; then, to try "
            "again, update lull.file_removals set dead_at = null, attempts = 0 where dead_at is not null"
        )
        message = f"{facts.dead_files} files could not be removed from Storage and were given up."
        found.append(fail("runs", message, mend))
    if found:
        return found
    if facts.last_status is None:
        return [ok("runs", "none yet")]
    return [ok("runs", f"the last ended at {shown(facts.last_finished_at)}: {facts.last_status}")]


def _neglected(facts: CleanupFacts, inspection: Inspection) -> list[Verdict]:
    """A run of one policy is a run; a schedule of such runs leaves the others out."""
    if facts.late or facts.last_finished_at is None:
        return []
    oldest = datetime.fromisoformat(facts.at) - timedelta(minutes=2 * facts.interval_minutes)
    left_out = [name for name, at in inspection.attended.items() if at is None or _moment(at) < oldest]
    if not left_out:
        return []
    message = f"The runs of the last two intervals left these policies out: {some(left_out)}."
    return [warn("runs", message, "schedule POST /api/admin/cleanup-sessions without ?policy=")]


def check_deliveries(inspection: Inspection) -> list[Verdict]:
    """Events that the webhook's receiver did not take."""
    queue = inspection.deliveries
    if queue.dead:
        mend = "select event_id, last_error from lull.deliveries where state = 'dead'"
        return [warn("events", f"{queue.dead} events were given up within 30 days.", mend)]
    oldest = queue.oldest_pending_at
    if oldest and _moment(inspection.at) - _moment(oldest) > _LONGEST_PENDING:
        message = f"{queue.pending} events wait to be delivered, the oldest since {shown(oldest)}."
        return [warn("events", message, "is the receiver up? POST /api/admin/deliver says what it answers")]
    return [ok("events", f"{queue.pending} wait to be delivered")]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
