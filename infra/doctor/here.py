"""The checks from this machine's environment: its settings, and the project that they name."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from api.cleanup.policies import load_policies
from api.database import Database
from api.doctor.check_database import check_indexes
from api.doctor.check_result import CheckResult, fail, not_checked, ok
from api.doctor.examination import Deployment, examine
from api.doctor.schemas import DatabaseState, DoctorReport
from api.events.webhook import create_receiver
from api.flags import create_flags
from api.settings import Settings, SettingsError
from api.storage import FileStorage
from infra.doctor.direct import check_postgrest, check_same_database, read_state_directly
from infra.doctor.release import (
    Release,
    check_functions,
    check_migrations,
    check_vercel_cron,
    made_indexes,
)

_ANON_KEYS = ("SUPABASE_ANON_KEY", "SUPABASE_PUBLISHABLE_KEY", "NEXT_PUBLIC_SUPABASE_ANON_KEY")
_NEEDS_SETTINGS = (
    "secrets", "flag", "user-sessions", "webhook", "database", "postgres", "grants", "policies", "indexes",
    "schedule", "runs", "events", "autovacuum", "clock", "bucket", "migrations", "functions", "schema-cache",
    "exposure",
)  # fmt: skip


def read_env_file(path: Path) -> dict[str, str]:
    """Read KEY=VALUE lines, as `make dev` writes them and platforms export them."""
    pairs = (line.strip().removeprefix("export ").partition("=") for line in path.read_text().splitlines())
    return {
        name.strip(): value.strip().strip("\"'") for name, equals, value in pairs if equals and not name.startswith("#")
    }


def checks_here(release: Release, environ: Mapping[str, str], interval_minutes: int | None) -> list[CheckResult]:
    """Every check that is possible from this environment."""
    try:
        settings = Settings.from_environ(environ)
    except SettingsError as error:
        fix = "correct it: the API does not start with it (.env.example says what it may be)"
        why = "the settings cannot be read"
        return [
            fail("settings", f"{error}.", fix),
            *(not_checked(name, why) for name in _NEEDS_SETTINGS),
            *check_vercel_cron(),
        ]
    changes: dict[str, object] = {}
    if interval_minutes is not None:
        changes["cleanup_interval_minutes"] = interval_minutes
    if settings.supabase_url is not None:
        changes["database_url"] = None  # checked separately below: here the project is checked by its key
    settings = settings.model_copy(update=changes)
    report = examine(_deployment(settings))
    return [ok("settings", "every variable can be read"), *_with_the_release(settings, environ, release, report)]


def _deployment(settings: Settings) -> Deployment:
    return Deployment(
        settings=settings,
        database=Database(settings),
        storage=FileStorage(settings),
        policies=lambda: [policy.arguments() for policy in load_policies(settings)],
        decide=partial(create_flags, settings),
        receiver=partial(create_receiver, settings),
    )


def _with_the_release(
    settings: Settings, environ: Mapping[str, str], release: Release, report: DoctorReport
) -> list[CheckResult]:
    interval = settings.interval_minutes() if settings.vercel else None
    checks, known = list(report.checks), report.database_state
    if database_url := environ.get("DATABASE_URL"):
        direct = read_state_directly(database_url)
        if isinstance(direct, DatabaseState):
            checks.append(check_same_database(direct, known))
            known = known or direct
        else:
            checks.append(direct)
    anon_key = next((environ[name] for name in _ANON_KEYS if environ.get(name)), None)
    return [
        *compared(release, checks, known, report),
        *check_postgrest(settings, release, anon_key),
        *check_vercel_cron(interval_minutes=interval),
    ]


def compared(
    release: Release, checks: list[CheckResult], known: DatabaseState | None, report: DoctorReport
) -> list[CheckResult]:
    """The checks of a deployment, and those that need the release's files, which name the indexes."""
    if known is None:
        why = "the database gave no answer"
        return [*checks, not_checked("migrations", why), not_checked("functions", why)]
    if report.database_state is not None and report.policy_checks is not None:
        known_better = check_indexes(known, report.policy_checks, made_indexes(release, known))
        at = next((n for n, result in enumerate(checks) if result.check == "indexes"), len(checks))
        others = [result for result in checks if result.check != "indexes"]
        checks = [*others[:at], *known_better, *others[at:]]
    return [*checks, *check_migrations(release, known), *check_functions(release, known)]
