"""What the database says about itself, as the doctor reads it from SQL functions or from a deployment."""

from collections.abc import Sequence
from typing import Any

from api.database import Database
from api.wire import Answer, Time

_TIMEOUT_SECONDS = 7  # the functions' own statement time-out is 5


class Migration(Answer):
    """One that was applied."""

    name: str
    checksum: str
    applied_at: Time


class Trigger(Answer):
    """One on a table of Lull's, or that calls a function of Lull's."""

    name: str
    table: str
    enabled: bool


class GrantFault(Answer):
    """A right that a role has and must not have, or lacks and needs."""

    object: str
    role: str
    fault: str


class Table(Answer):
    """How vacuuming keeps up with a table; `limit` dead rows start an autovacuum."""

    name: str
    live: int
    dead: int
    limit: int
    vacuumed_at: Time | None
    enabled: bool


class CronJob(Answer):
    """A job of pg_cron; `does` is dry-run, request or sql."""

    name: str
    schedule: str
    active: bool
    does: str
    last_status: str | None


class CallerRuns(Answer):
    """Who began runs in the last 30 days."""

    caller: str
    runs: int
    last_started_at: Time


class Deliveries(Answer):
    """The webhook's queue; `dead` within 30 days."""

    pending: int
    oldest_pending_at: Time | None
    dead: int


class Inspection(Answer):
    """What `lull_inspect` says."""

    at: Time
    server_version: str
    server_version_number: int
    migrations: list[Migration]
    functions: dict[str, str]  # name: MD5 of its body
    indexes: dict[str, bool]  # name: whether it is valid
    triggers: list[Trigger]
    grant_faults: list[GrantFault]
    tables: list[Table]
    autovacuum: bool
    oldest_transaction_seconds: float | None
    cron_jobs: list[CronJob] | None
    callers: list[CallerRuns]
    attended: dict[str, Time | None]  # policy: when a run last came to its end
    deliveries: Deliveries


class Difference(Answer):
    """A field of a policy as it is stored, and as the file and the environment have it."""

    field: str
    stored: str | None
    given: str | None


class PolicyCheck(Answer):
    """A policy of the file; `index` is the statement that makes the index it lacks."""

    policy: str
    stored: bool
    differences: list[Difference]
    error: str | None
    index: str | None


class PolicyChecks(Answer):
    """What `lull_check_policies` says; `others` are stored, and not in the file."""

    policies: list[PolicyCheck]
    others: list[str]


def inspect(database: Database) -> Inspection:
    """Ask the database about itself. Raises Problem."""
    return Inspection.model_validate(database.call("lull_inspect", {}, timeout_seconds=_TIMEOUT_SECONDS))


def check_policies(database: Database, policies: Sequence[dict[str, Any]]) -> PolicyChecks:
    """Ask how these policies and the stored ones compare, and whether they can run. Raises Problem."""
    arguments = {"p_policies": list(policies)}
    return PolicyChecks.model_validate(
        database.call("lull_check_policies", arguments, timeout_seconds=_TIMEOUT_SECONDS)
    )
