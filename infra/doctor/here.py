"""The checks from this machine's environment: the settings here, and the project that they name."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from api.cleanup.policies import load_policies
from api.cleanup.report import PATH
from api.events.webhook import create_receiver
from api.insight.check_database import check_indexes
from api.insight.checkup import Checkup, Deployment, examine
from api.insight.inspection import Inspection
from api.insight.verdict import Verdict, fail, not_checked, ok
from api.settings import Settings, SettingsError, load_settings
from infra.doctor.direct import check_postgrest, check_same_database, inspect_directly
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


@contextmanager
def environment_with(values: Mapping[str, str]) -> Iterator[None]:
    """Let these variables be set while the block lasts."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def read_env_file(path: Path) -> dict[str, str]:
    """Read KEY=VALUE lines, as `make dev` writes them and as they are exported from a platform."""
    pairs = (line.strip().removeprefix("export ").partition("=") for line in path.read_text().splitlines())
    return {
        name.strip(): value.strip().strip("\"'")
        for name, equals, value in pairs
        if equals and not name.startswith("#")
    }


def checks_here(release: Release, interval_minutes: int | None) -> list[Verdict]:
    """Every check that can be made from the environment of this process."""
    try:
        settings = load_settings()
    except SettingsError as error:
        mend = "correct it: the API does not start with it (.env.example says what it may be)"
        why = "the settings cannot be read"
        return [
            fail("settings", f"{error}.", mend),
            *(not_checked(name, why) for name in _NEEDS_SETTINGS),
            *check_vercel_cron(),
        ]
    changes: dict[str, object] = {}
    if interval_minutes is not None:
        changes["cleanup_interval_minutes"] = interval_minutes
    if settings.supabase_url is not None:
        changes["database_url"] = None  # the project's key is examined, and DATABASE_URL by itself below
    settings = settings.model_copy(update=changes)
    checkup = examine(_deployment(settings))
    return [ok("settings", "every variable can be read"), *_with_the_release(settings, release, checkup)]


def _deployment(settings: Settings) -> Deployment:
    return Deployment.of(
        settings,
        policies=lambda: [policy.arguments() for policy in load_policies(settings)],
        receiver=partial(create_receiver, settings),
        cleanup_route=PATH,
    )


def _with_the_release(settings: Settings, release: Release, checkup: Checkup) -> list[Verdict]:
    interval = settings.interval_minutes() if settings.vercel else None
    checks, known = list(checkup.checks), checkup.inspection
    if database_url := os.environ.get("DATABASE_URL"):
        direct = inspect_directly(database_url)
        if isinstance(direct, Inspection):
            checks.append(check_same_database(direct, known))
            known = known or direct
        else:
            checks.append(direct)
    anon_key = next((os.environ[name] for name in _ANON_KEYS if os.environ.get(name)), None)
    return [
        *compared(release, checks, known, checkup),
        *check_postgrest(settings, release, anon_key),
        *check_vercel_cron(interval_minutes=interval),
    ]


def compared(
    release: Release, checks: list[Verdict], known: Inspection | None, checkup: Checkup
) -> list[Verdict]:
    """The checks of a deployment, and what the release's files add; these know the indexes by name."""
    if known is None:
        why = "the database gave no answer"
        return [*checks, not_checked("migrations", why), not_checked("functions", why)]
    if checkup.inspection is not None and checkup.policy_checks is not None:
        known_better = check_indexes(known, checkup.policy_checks, made_indexes(release, known))
        at = next((n for n, verdict in enumerate(checks) if verdict.check == "indexes"), len(checks))
        others = [verdict for verdict in checks if verdict.check != "indexes"]
        checks = [*others[:at], *known_better, *others[at:]]
    return [*checks, *check_migrations(release, known), *check_functions(release, known)]
