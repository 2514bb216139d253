"""The checks that compare a database with the files of this checkout."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from api.cleanup.report import PATH
from api.doctor.check_result import CheckResult, fail, ok, warn
from api.doctor.schemas import DatabaseState
from api.http.sentences import some
from infra import migrate
from infra.local.environment import ROOT

_FUNCTION = re.compile(
    r"^create or replace function ((?:lull|public)\.\w+)\(.*?\bas (\$\w*\$)(.*?)\2", re.DOTALL | re.MULTILINE
)
_OPERATION = re.compile(r"^create or replace function public\.(lull_\w+)\(([^)]*)\)", re.MULTILINE)
_INDEX = re.compile(r"^create (?:unique )?index (\w+) on [^;]*", re.MULTILINE)
_DROPPED_INDEX = re.compile(r"^drop index (?:if exists )?(?:lull\.)?(\w+)", re.MULTILINE)
_TRIGGER = re.compile(r"^create or replace trigger (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Release:
    """The objects that `make migrate` creates, by name, each with a checksum or statement to compare."""

    migrations: dict[str, str]  # checksum
    indexes: dict[str, tuple[str, str]]  # the migration that makes it, and the statement
    functions: dict[str, str]  # MD5 of the body
    operations: frozenset[str]  # of schema public, callable without an argument
    triggers: frozenset[str]


def read_release(sql: Path = migrate.SQL) -> Release:
    """Read the SQL files of this checkout."""
    migrations, indexes = {}, {}
    for path in sorted((sql / "migrations").glob("*.sql")):
        text = _text(path)
        migrations[path.name] = migrate.checksum(text)
        for made in _INDEX.finditer(text):
            indexes[made[1]] = (path.name, " ".join(made[0].split()))
        for gone in _DROPPED_INDEX.finditer(text):
            indexes.pop(gone[1], None)
    functions, operations, triggers = {}, set(), set()
    for path in [sql / "migration_state.sql", *migrate.function_files(sql)]:
        text = _text(path)
        for name, _, body in _FUNCTION.findall(text):
            functions[name] = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        for name, arguments in _OPERATION.findall(text):
            if all(" default " in argument for argument in arguments.split(",") if argument):
                operations.add(name)
        triggers |= set(_TRIGGER.findall(text))
    return Release(migrations, indexes, functions, frozenset(operations), frozenset(triggers))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\r", "")


def check_migrations(release: Release, database_state: DatabaseState) -> list[CheckResult]:
    """Each migration is applied, with its current content."""
    applied = {each.name: each.checksum for each in database_state.migrations}
    found = []
    for name, checksum in release.migrations.items():
        if name not in applied:
            found.append(fail("migrations", f"{name} is not applied.", "make migrate"))
        elif applied[name] != checksum:
            message = f"{name} was edited after it had been applied: the file and the database differ."
            fix = f"git checkout sql/migrations/{name}, and put the change into a new migration"
            found.append(fail("migrations", message, fix))
    if newer := sorted(applied.keys() - release.migrations.keys()):
        message = f"The database is newer than this checkout: it has {some(newer)}."
        found.append(warn("migrations", message, "nothing, after a rollback; else use the newer checkout"))
    return found or [ok("migrations", f"{len(applied)} applied, all as in this checkout")]


def made_indexes(release: Release, database_state: DatabaseState) -> dict[str, str]:
    """The statements of the indexes that the applied migrations created, by name."""
    applied = {each.name for each in database_state.migrations}
    return {name: statement for name, (migration, statement) in release.indexes.items() if migration in applied}


def check_functions(release: Release, database_state: DatabaseState) -> list[CheckResult]:
    """The database has this checkout's functions and triggers, not those of another release."""
    newer = {each.name for each in database_state.migrations} - release.migrations.keys()
    missing = sorted(release.functions.keys() - database_state.functions.keys())
    other = sorted(
        name
        for name, body in release.functions.items()
        if name in database_state.functions and database_state.functions[name] != body
    )
    found = []
    if missing:
        found.append(fail("functions", f"{len(missing)} are missing: {some(missing)}.", "make migrate"))
    if other and newer:
        message = f"{len(other)} are those of a newer release: {some(other)}."
        found.append(warn("functions", message, "nothing after a rollback: older code may call them"))
    elif other:
        message = f"{len(other)} are not as in this checkout: {some(other)}."
        found.append(fail("functions", message, "make migrate"))
    enabled = {each.name: each.enabled for each in database_state.triggers}
    gone = sorted(release.triggers - enabled.keys())
    found += [fail("functions", f"The trigger {name} is missing.", "make migrate") for name in gone]
    for each in database_state.triggers:
        if not each.enabled:
            fix = f"alter table {each.table} enable trigger {each.name}"
            found.append(fail("functions", f"The trigger {each.name} is disabled.", fix))
    return found or [ok("functions", f"{len(release.functions)}, all as in this checkout")]


def check_vercel_cron(root: Path = ROOT, *, interval_minutes: int | None = None) -> list[CheckResult]:
    """The schedule in vercel.json. `interval_minutes` is the interval that a deployment on Vercel expects."""
    file = root / "vercel.json"
    if not file.exists():
        return [ok("vercel-cron", "no vercel.json: another scheduler calls")]
    try:
        crons = {cron["path"]: cron["schedule"] for cron in json.loads(file.read_text()).get("crons", [])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [fail("vercel-cron", f"vercel.json cannot be read: {error!r}.", "git checkout vercel.json")]
    if PATH not in crons:
        message = f"vercel.json schedules no {PATH} (it has: {some(sorted(crons)) or 'nothing'})."
        return [fail("vercel-cron", message, f'"crons": [{{"path": "{PATH}", "schedule": "0 2 * * *"}}]')]
    every = _minutes(crons[PATH])
    if interval_minutes and every and every > interval_minutes:
        message = (
            f"vercel.json calls every {every} minutes, and CLEANUP_INTERVAL_MINUTES expects a run every "
            f"{interval_minutes}: health will say late."
        )
        return [warn("vercel-cron", message, f"set CLEANUP_INTERVAL_MINUTES={every}, then redeploy")]
    return [ok("vercel-cron", f"vercel.json schedules {PATH} at {crons[PATH]} (UTC)")]


def _minutes(schedule: str) -> int | None:
    """The minutes between the calls of a simple cron schedule; None for any other schedule."""
    match schedule.split():
        case [minute, hour, "*", "*", "*"] if minute.isdecimal() and hour.isdecimal():
            return 1440
        case [minute, "*", "*", "*", "*"] if minute.isdecimal():
            return 60
        case [minute, "*", "*", "*", "*"] if re.fullmatch(r"\*/[1-9][0-9]?", minute):
            return int(minute[2:])
        case [minute, hour, "*", "*", "*"] if minute.isdecimal() and re.fullmatch(r"\*/[1-9][0-9]?", hour):
            return 60 * int(hour[2:])
    return None
