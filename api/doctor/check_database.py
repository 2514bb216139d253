"""Checks of the database: version, grants, policies, indexes, autovacuum."""

from collections.abc import Mapping, Sequence

from api.doctor.check_result import CheckResult, fail, not_checked, ok, warn
from api.doctor.schemas import DatabaseState, GrantFault, PolicyCheck, PolicyChecks
from api.errors import Problem
from api.http.sentences import shown, some

_OLDEST, _NEWEST = 15, 18
_DEAD_ROWS = 10_000  # fewer dead rows are no problem, even in a small table
_LONG_TRANSACTION_SECONDS = 3600


def check_refusal(problem: Problem, *, direct: bool) -> CheckResult:
    """Why the database could not be asked, by the type of the problem. `direct` means without PostgREST."""
    match problem.slug:
        case "database-refused" if direct:
            message = "The database refuses the login that DATABASE_URL names."
            return fail("database", message, "copy it anew: Supabase > Connect")
        case "database-refused":
            message = "Supabase refuses this key: SUPABASE_SECRET_KEY is wrong, or of another project."
            return fail("database", message, "copy the secret key: Supabase > Settings > API Keys")
        case "not-migrated":
            message = "The project answers, and lacks functions of this release (or PostgREST has an old schema)."
            return fail("database", message, "make migrate; then, if it stays: notify pgrst, 'reload schema'")
        case "not-configured":
            return fail("database", problem.detail, "set SUPABASE_URL and SUPABASE_SECRET_KEY, then redeploy")
        case "database-timeout":
            message = "The database answers, and took too long for a simple query."
            return fail("database", message, "look for long queries and load: Supabase > Reports > Database")
        case "database-unavailable" if direct:
            message = "No database answers at DATABASE_URL."
            return fail("database", message, "check DATABASE_URL, and whether the project is paused")
        case "database-unavailable":
            message = "Nothing that speaks PostgREST answers at SUPABASE_URL."
            fix = "check SUPABASE_URL, whether the project is paused, and status.supabase.com"
            return fail("database", message, fix)
    return fail("database", f"The database failed: {problem.detail}", "read the log line `database refused`")


def check_version(database_state: DatabaseState) -> list[CheckResult]:
    """Postgres 15 to 18."""
    major = database_state.server_version_number // 10_000
    if major < _OLDEST:
        message = f"Postgres {database_state.server_version} is older than {_OLDEST}, the oldest Lull runs on."
        return [fail("postgres", message, "upgrade: Supabase > Settings > Infrastructure")]
    if major > _NEWEST:
        message = f"Postgres {database_state.server_version}: Lull was tested up to {_NEWEST}."
        return [warn("postgres", message, "read Lull's changelog for a newer release")]
    return [ok("postgres", f"version {database_state.server_version}")]


def check_grants(database_state: DatabaseState) -> list[CheckResult]:
    """Only service_role executes, no role reads a table (sql/grants.sql), and what is Lull's is marked as such.

    A dump brings grants of the default privileges along, and leaves comments out where it is told to.
    """
    found = [fail("grants", _fault(fault), "make migrate") for fault in database_state.grant_faults]
    found += [
        warn("grants", f"{name} has lost the comment that marks it as Lull's.", "make migrate")
        for name in database_state.unmarked
    ]
    return found or [ok("grants", "only service_role may call Lull, and no role reads its tables")]


def _fault(fault: GrantFault) -> str:
    if fault.role == "any caller":
        return f"{fault.object} {fault.fault}."
    return f"{fault.object} {fault.fault} by {fault.role}."


def check_policies_stored(checks: PolicyChecks) -> list[CheckResult]:
    """The stored policies are those of the file and the environment, and can run."""
    fix = "make migrate, with the deployment's variables; the next run would apply them too"
    found = [
        fail("policies", f"{line.policy}: {_difference(line)}.", fix)
        for line in checks.policies
        if line.differences or not line.stored
    ]
    found += [fail("policies", f"{name} is stored, and no longer in the file.", fix) for name in checks.others]
    found += [
        fail("policies", f"{line.policy} cannot run: {line.error}.", "fix what it names, or the file")
        for line in checks.policies
        if line.error and not line.index
    ]
    return found or [ok("policies", f"{len(checks.policies)} stored, all as the file and environment say")]


def _difference(line: PolicyCheck) -> str:
    if not line.stored:
        return "in the file, and not applied to the database"
    each = [f"{d.field} is {d.stored} in the database and {d.given} in the file" for d in line.differences]
    return some(each, 2)


def check_indexes(
    database_state: DatabaseState, checks: PolicyChecks, made: Mapping[str, str] | None = None
) -> list[CheckResult]:
    """Each policy has an index, and the indexes of the migrations exist and are valid.

    `made` has the statements of the migrations by index name, where the migrations are available.
    """
    made = made or {}
    found = [
        fail("indexes", f"{name} is missing: what it serves reads whole tables.", statement)
        for name, statement in made.items()
        if name not in database_state.indexes
    ]
    if not found:
        found = [
            fail("indexes", f"No index serves {line.policy}: its runs fail.", line.index)
            for line in checks.policies
            if line.index
        ]
    found += [
        fail("indexes", f"{name} is invalid: building it was interrupted.", f"reindex index lull.{name}")
        for name, valid in database_state.indexes.items()
        if not valid
    ]
    return found or [ok("indexes", f"one serves each of {len(checks.policies)} policies")]


def check_autovacuum(database_state: DatabaseState) -> list[CheckResult]:
    """Whether autovacuum removes dead rows. A table is far behind at five times the autovacuum threshold."""
    if not database_state.autovacuum:
        message = "autovacuum (or track_counts) is off: tables grow without limit, and batches become slower."
        return [fail("autovacuum", message, "alter system set autovacuum = on; select pg_reload_conf()")]
    found = [
        fail(
            "autovacuum",
            f"{table.name} has autovacuum switched off.",
            f"alter table {table.name} reset (autovacuum_enabled)",
        )
        for table in database_state.tables
        if not table.enabled
    ]
    found += [
        warn(
            "autovacuum",
            f"{table.name} has {table.dead} dead rows beside {table.live}; last vacuumed: {shown(table.vacuumed_at)}.",
            f"vacuum analyze {table.name}; then look for long transactions in pg_stat_activity",
        )
        for table in database_state.tables
        if table.dead > max(5 * table.limit, _DEAD_ROWS)
    ]
    oldest = database_state.oldest_transaction_seconds or 0
    if oldest > _LONG_TRANSACTION_SECONDS:
        message = f"A transaction is open for {oldest / 3600:.0f} h: what was deleted since stays on disk."
        found.append(warn("autovacuum", message, "find it in pg_stat_activity by xact_start, and end it"))
    return found or [ok("autovacuum", f"keeps up with {len(database_state.tables)} tables")]


def none_of(names: Sequence[str], why: str) -> list[CheckResult]:
    """The results of checks that could not be made, with the reason."""
    return [not_checked(name, why) for name in names]
