"""The checks that a deployment makes of itself: settings, database, bucket, clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import ValidationError

from api.database import Database
from api.doctor import check_cleanup, check_database, check_games, check_own_tables, check_rooms
from api.doctor.check_flag import check_flag
from api.doctor.check_result import CheckResult, fail, not_checked, ok, warn
from api.doctor.check_settings import check_secrets, check_store, check_webhook
from api.doctor.check_storage import check_bucket
from api.doctor.database_state import check_policies, read_database_state
from api.doctor.schemas import DatabaseState, DoctorReport, PolicyChecks
from api.errors import Problem
from api.flags import Decide, create_flags
from api.http.cleanup_facts import CleanupFacts, read_cleanup_facts
from api.http.parts import Parts
from api.observability import CLEANUP, RequestNumbers
from api.settings import Settings
from api.storage import FileStorage

_OF_THE_DATABASE = (
    "postgres", "grants", "policies", "indexes", "schedule", "runs", "events", "autovacuum", "own tables", "restores",
    "sweeps", "clock",
)  # fmt: skip
_WARN_SECONDS, _FAIL_SECONDS = 5, 60


@dataclass(frozen=True)
class Deployment:
    """The deployment to examine. Its callables raise SettingsError, PolicyError (both are ValueErrors) or Problem.
    `numbers` are those of this process if it answers requests, else None."""

    settings: Settings
    database: Database
    storage: FileStorage
    policies: Callable[[], Sequence[dict[str, Any]]]
    decide: Callable[[], Decide]
    receiver: Callable[[], object]
    numbers: RequestNumbers | None = None

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """The deployment that this process belongs to."""
        return cls(
            settings=parts.settings,
            database=Database(parts.settings),
            storage=FileStorage(parts.settings),
            policies=parts.policies,
            decide=partial(create_flags, parts.settings),
            receiver=parts.receiver,
            numbers=parts.numbers,
        )


@dataclass(frozen=True)
class _Facts:
    database_state: DatabaseState
    cleanup: CleanupFacts
    policies: PolicyChecks
    skew_seconds: float


def examine(deployment: Deployment) -> DoctorReport:
    """Make every check that is possible from this process. Changes nothing, and never raises."""
    settings = deployment.settings
    checks = [
        *check_secrets(settings),
        *check_flag(settings, deployment.decide),
        *check_store(settings),
        *check_webhook(settings, deployment.receiver),
    ]
    policies, fault = _policies(deployment)
    try:
        facts = _ask(deployment, policies)
    except Problem as problem:
        refusal = check_database.check_refusal(problem, direct=_is_direct(settings))
        checks += [refusal, *check_database.none_of(_OF_THE_DATABASE, "the database gave no answer")]
        if problem.slug in {"database-refused", "not-configured"}:
            checks.append(not_checked("bucket", "it needs the same address and key"))
        else:
            checks += check_bucket(settings, deployment.storage)
        return DoctorReport(checks=checks, policies=policies)
    except ValidationError:
        message = "The database's answer has the format of another release."
        checks += [
            fail("database", message, "make migrate with this release, or deploy the other one"),
            *check_database.none_of(_OF_THE_DATABASE, "the database is of another release"),
            *check_bucket(settings, deployment.storage),
        ]
        return DoctorReport(checks=checks, policies=policies)
    checks += _judge(deployment, facts, fault)
    checks += check_bucket(settings, deployment.storage)
    compared = None if fault else facts.policies
    return DoctorReport(checks=checks, database_state=facts.database_state, policy_checks=compared, policies=policies)


def _policies(deployment: Deployment) -> tuple[list[dict[str, Any]], CheckResult | None]:
    try:
        return list(deployment.policies()), None
    except ValueError as error:
        message = f"The policies file cannot be used. {error}"
        return [], fail("policies", message, "correct it, then redeploy")


def _ask(deployment: Deployment, policies: Sequence[dict[str, Any]]) -> _Facts:
    database = deployment.database
    cleanup = read_cleanup_facts(database, deployment.settings.interval_minutes())
    before = datetime.now(UTC)
    database_state = read_database_state(database)
    skew = skew_seconds(before, datetime.fromisoformat(database_state.at), datetime.now(UTC))
    return _Facts(database_state, cleanup, check_policies(database, policies), skew)


def _judge(deployment: Deployment, facts: _Facts, fault: CheckResult | None) -> list[CheckResult]:
    numbers, dry_runs, since = deployment.numbers, None, None
    if numbers is not None:
        dry_runs, since = numbers.answered(*CLEANUP), numbers.since
    if fault:
        of_policies = [fault, not_checked("indexes", "the policies are not known")]
    else:
        of_policies = [
            *check_database.check_policies_stored(facts.policies),
            *check_database.check_indexes(facts.database_state, facts.policies),
        ]
    if _is_direct(deployment.settings):
        reached = "DATABASE_URL leads to a database that answers"
    else:
        reached = f"{urlsplit(deployment.settings.supabase_url or '').netloc} answers and accepts the key"
    return [
        ok("database", reached),
        *check_database.check_version(facts.database_state),
        *check_database.check_grants(facts.database_state),
        *of_policies,
        *check_cleanup.check_schedule(facts.cleanup, facts.database_state, dry_runs, since),
        *check_cleanup.check_runs(facts.cleanup),
        *check_cleanup.check_deliveries(facts.database_state),
        *check_database.check_autovacuum(facts.database_state),
        *check_own_tables.check_own_tables(facts.database_state),
        *check_own_tables.check_remainders(facts.database_state),
        *check_rooms.check_sweeps(facts.database_state),
        *check_games.check_games(facts.database_state, deployment.settings.recovery_limit),
        check_clock("clock", "this process", "the database", facts.skew_seconds),
    ]


def _is_direct(settings: Settings) -> bool:
    """Whether the database is called without PostgREST."""
    return settings.database_url is not None


def skew_seconds(before: datetime, theirs: datetime, after: datetime) -> float:
    """The seconds by which another clock, read between two readings of ours, lies outside of them; 0 when inside."""
    return (theirs - min(max(theirs, before), after)).total_seconds()


def check_clock(check: str, ours: str, theirs: str, skew: float) -> CheckResult:
    """Compare two clocks: a difference makes token expiry, schedules and logs wrong."""
    message = f"{theirs} and {ours} agree on the time"
    if abs(skew) <= _WARN_SECONDS:
        return ok(check, message)
    direction = "ahead of" if skew > 0 else "behind"
    message = f"The clock of {theirs} is {abs(skew):.0f} s {direction} that of {ours}."
    fix = "turn on time synchronisation (NTP) where it is wrong"
    return fail(check, message, fix) if abs(skew) > _FAIL_SECONDS else warn(check, message, fix)
