"""Everything that a deployment can say about itself: its settings, its database, its bucket, its clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from api import __version__
from api.database import Database
from api.errors import Problem
from api.file_storage import FileStorage
from api.flags import Decide, create_flags
from api.insight import check_cleanup, check_database
from api.insight.check_flag import check_flag
from api.insight.check_settings import check_secrets, check_store, check_webhook
from api.insight.check_storage import check_bucket
from api.insight.health import CleanupFacts, read_cleanup_facts
from api.insight.inspection import Inspection, PolicyChecks, check_policies, inspect
from api.insight.stats import answered_gets
from api.insight.verdict import Verdict, fail, not_checked, ok, warn
from api.observability import RequestNumbers
from api.settings import Settings
from api.wire import Answer

_OF_THE_DATABASE = (
    "postgres", "grants", "policies", "indexes", "schedule", "runs", "events", "autovacuum", "clock",
)  # fmt: skip
_WARN_SECONDS, _FAIL_SECONDS = 5, 60


@dataclass(frozen=True)
class Deployment:
    """What is examined. The callables raise what a caller of theirs would meet: SettingsError, PolicyError
    (ValueErrors both) and Problem. `numbers` are of the process that answers requests, if this is one."""

    settings: Settings
    database: Database
    storage: FileStorage
    policies: Callable[[], Sequence[dict[str, Any]]]
    decide: Callable[[], Decide]
    receiver: Callable[[], object]
    cleanup_route: str
    numbers: RequestNumbers | None = None

    @classmethod
    def of(cls, settings: Settings, **wings: Any) -> Self:
        """With doors of its own, and what is another wing's as given. Connects to nothing, raises nothing."""
        doors: dict[str, Any] = {"database": Database(settings), "storage": FileStorage(settings)}
        return cls(settings=settings, decide=partial(create_flags, settings), **doors, **wings)


class Checkup(Answer):
    """The verdicts, and the facts that another may judge by what only it knows: the files of a release."""

    version: str = __version__
    checks: list[Verdict]
    inspection: Inspection | None = Field(default=None, description="Null when the database was not reached.")
    policy_checks: PolicyChecks | None = Field(default=None, description="Null when nothing was compared.")
    policies: list[dict[str, Any]] = Field(default=[], description="As the file and the environment say.")


@dataclass(frozen=True)
class _Facts:
    inspection: Inspection
    cleanup: CleanupFacts
    policies: PolicyChecks
    skew_seconds: float


def examine(deployment: Deployment) -> Checkup:
    """Make every check that can be made from here. Changes nothing, and never raises."""
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
        return Checkup(checks=checks, policies=policies)
    except ValidationError:
        message = "The database answers in the shape of another release."
        checks += [
            fail("database", message, "make migrate with this release, or deploy the other one"),
            *check_database.none_of(_OF_THE_DATABASE, "the database is of another release"),
            *check_bucket(settings, deployment.storage),
        ]
        return Checkup(checks=checks, policies=policies)
    checks += _judge(deployment, facts, fault)
    checks += check_bucket(settings, deployment.storage)
    compared = None if fault else facts.policies
    return Checkup(checks=checks, inspection=facts.inspection, policy_checks=compared, policies=policies)


def _policies(deployment: Deployment) -> tuple[list[dict[str, Any]], Verdict | None]:
    try:
        return list(deployment.policies()), None
    except ValueError as error:
        message = f"The policies file cannot be used. {error}"
        return [], fail("policies", message, "correct it, then redeploy")


def _ask(deployment: Deployment, policies: Sequence[dict[str, Any]]) -> _Facts:
    database = deployment.database
    cleanup = read_cleanup_facts(database, deployment.settings.interval_minutes())
    before = datetime.now(UTC)
    inspection = inspect(database)
    skew = skew_seconds(before, datetime.fromisoformat(inspection.at), datetime.now(UTC))
    return _Facts(inspection, cleanup, check_policies(database, policies), skew)


def _judge(deployment: Deployment, facts: _Facts, fault: Verdict | None) -> list[Verdict]:
    numbers, dry_runs, since = deployment.numbers, None, None
    if numbers is not None:
        dry_runs, since = answered_gets(numbers, deployment.cleanup_route), numbers.since
    if fault:
        of_policies = [fault, not_checked("indexes", "the policies are not known")]
    else:
        of_policies = [
            *check_database.check_policies_stored(facts.policies),
            *check_database.check_indexes(facts.inspection, facts.policies),
        ]
    if _is_direct(deployment.settings):
        reached = "DATABASE_URL leads to a database that answers"
    else:
        reached = f"{urlsplit(deployment.settings.supabase_url or '').netloc} answers and accepts the key"
    return [
        ok("database", reached),
        *check_database.check_version(facts.inspection),
        *check_database.check_grants(facts.inspection),
        *of_policies,
        *check_cleanup.check_schedule(facts.cleanup, facts.inspection, dry_runs, since),
        *check_cleanup.check_runs(facts.cleanup, facts.inspection),
        *check_cleanup.check_deliveries(facts.inspection),
        *check_database.check_autovacuum(facts.inspection),
        check_clock("clock", "this process", "the database", facts.skew_seconds),
    ]


def _is_direct(settings: Settings) -> bool:
    """Whether the database is called without PostgREST."""
    return settings.database_url is not None


def skew_seconds(before: datetime, theirs: datetime, after: datetime) -> float:
    """How far a clock that was read between two moments of ours is from them; 0 when it is in between."""
    return (theirs - min(max(theirs, before), after)).total_seconds()


def check_clock(check: str, ours: str, theirs: str, skew: float) -> Verdict:
    """Clocks that disagree make secrets' expiries, schedules and logs lie."""
    message = f"{theirs} and {ours} agree on the time"
    if abs(skew) <= _WARN_SECONDS:
        return ok(check, message)
    direction = "ahead of" if skew > 0 else "behind"
    message = f"The clock of {theirs} is {abs(skew):.0f} s {direction} that of {ours}."
    mend = "turn on time synchronisation (NTP) where it is wrong"
    return fail(check, message, mend) if abs(skew) > _FAIL_SECONDS else warn(check, message, mend)
