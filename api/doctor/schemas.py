"""The doctor's answers, and what it reads from the database."""

from typing import Any

from pydantic import Field

from api import __version__
from api.doctor.check_result import CheckResult
from api.http.schemas import Answer, Time


class Migration(Answer):
    """A migration that was applied."""

    name: str
    checksum: str
    applied_at: Time


class Trigger(Answer):
    """A trigger on one of Lull's tables, or that calls one of Lull's functions."""

    name: str
    table: str
    enabled: bool


class GrantFault(Answer):
    """A privilege that a role has and must not have, or needs and lacks."""

    object: str
    role: str
    fault: str


class Table(Answer):
    """The state of vacuuming of a table; `limit` dead rows start an autovacuum."""

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
    """Runs in the last 30 days, by caller."""

    caller: str
    runs: int
    last_started_at: Time


class Deliveries(Answer):
    """The webhook's queue; `dead` within 30 days. `restored`: the log is from a dump of another cluster."""

    pending: int
    oldest_pending_at: Time | None
    dead: int
    restored: bool = False


class CodeGrant(Answer):
    """Roles that are not trusted and may put a trigger on a table of a team's, or a foreign key onto it."""

    table: str
    roles: list[str]


class OwnTable(Answer):
    """A team's table on the policies' list: why no policy can act on it now, tables below not named, and grants.

    `seen_indexes` have the clock of its participants.
    """

    name: str
    reasons: list[str]
    unnamed: list[str]
    seen_indexes: list[str] = Field(default=[])
    grants: list[CodeGrant] = Field(default=[])


class Remainder(Answer):
    """Archived rows of a target that a restore could not bring back."""

    target: str
    rows: int
    reasons: list[str]
    purge_after: Time | None


class Sweeps(Answer):
    """When the last sweep began, the policies that warn, and whether a session that they are about is active."""

    last_started_at: Time | None = None
    warning: list[str] = Field(default=[])
    needed: bool = False


class SharedKey(Answer):
    """Open games that share an external key, oldest first."""

    key: str
    games: list[str]


class RecoveredGame(Answer):
    """An active game that was recovered so often without a command since."""

    id: str
    times: int


class GameFacts(Answer):
    """Games that may need an operator, at most 20 of each."""

    shared_keys: list[SharedKey] = Field(default=[])
    recovered: list[RecoveredGame] = Field(default=[])


class DatabaseState(Answer):
    """The answer of `lull_inspect`."""

    at: Time
    server_version: str
    server_version_number: int
    migrations: list[Migration]
    functions: dict[str, str]  # name: MD5 of its body
    indexes: dict[str, bool]  # name: whether it is valid
    triggers: list[Trigger]
    grant_faults: list[GrantFault]
    unmarked: list[str] = Field(default=[])  # objects of Lull's whose comment was lost
    tables: list[Table]
    autovacuum: bool
    oldest_transaction_seconds: float | None
    cron_jobs: list[CronJob] | None
    callers: list[CallerRuns]
    attended: dict[str, Time | None]  # policy: when a run last came to its end
    deliveries: Deliveries
    own_tables: list[OwnTable] = Field(default=[])
    remainders: list[Remainder] = Field(default=[])
    sweeps: Sweeps = Field(default=Sweeps())
    games: GameFacts = GameFacts()


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
    """The answer of `lull_check_policies`; `others` are stored, and not in the file."""

    policies: list[PolicyCheck]
    others: list[str]


class DoctorReport(Answer):
    """The results, and the facts for checks that need a release's files."""

    version: str = __version__
    checks: list[CheckResult]
    database_state: DatabaseState | None = Field(default=None, description="Null when the database was not reached.")
    policy_checks: PolicyChecks | None = Field(default=None, description="Null when nothing was compared.")
    policies: list[dict[str, Any]] = Field(default=[], description="As the file and the environment say.")
