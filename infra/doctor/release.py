"""What this checkout says a database must have: the checks that need the release's own files."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from api.cleanup.report import PATH
from api.insight.inspection import Inspection
from api.insight.verdict import Verdict, fail, ok, some, warn
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
    """The names of what `make migrate` makes, each with what tells whether it is the same."""

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
    for path in [sql / "ledger.sql", *migrate.function_files(sql)]:
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


def check_migrations(release: Release, inspection: Inspection) -> list[Verdict]:
    """Each file is applied, as it is now."""
    applied = {each.name: each.checksum for each in inspection.migrations}
    found = []
    for name, checksum in release.migrations.items():
        if name not in applied:
            found.append(fail("migrations", f"{name} is not applied.", "make migrate"))
        elif applied[name] != checksum:
            message = f"{name} was edited after it had been applied: the file and the database differ."
            mend = f"git checkout sql/migrations/{name}, and put the change into a new migration"
            found.append(fail("migrations", message, mend))
    if newer := sorted(applied.keys() - release.migrations.keys()):
        message = f"The database is newer than this checkout: it has {some(newer)}."
        found.append(warn("migrations", message, "nothing, after a rollback; else use the newer checkout"))
    return found or [ok("migrations", f"{len(applied)} applied, all as in this checkout")]


def made_indexes(release: Release, inspection: Inspection) -> dict[str, str]:
    """The statements of the indexes that the applied migrations made, by name."""
    applied = {each.name for each in inspection.migrations}
    return {
        name: statement for name, (migration, statement) in release.indexes.items() if migration in applied
    }


def check_functions(release: Release, inspection: Inspection) -> list[Verdict]:
    """The database runs this checkout's functions and triggers, not those of another deploy."""
    newer = {each.name for each in inspection.migrations} - release.migrations.keys()
    missing = sorted(release.functions.keys() - inspection.functions.keys())
    other = sorted(
        name
        for name, body in release.functions.items()
        if name in inspection.functions and inspection.functions[name] != body
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
    enabled = {each.name: each.enabled for each in inspection.triggers}
    gone = sorted(release.triggers - enabled.keys())
    found += [fail("functions", f"The trigger {name} is missing.", "make migrate") for name in gone]
    for each in inspection.triggers:
        if not each.enabled:
            mend = f"alter table {each.table} enable trigger {each.name}"
            found.append(fail("functions", f"The trigger {each.name} is disabled.", mend))
    return found or [ok("functions", f"{len(release.functions)}, all as in this checkout")]


def check_vercel_cron(root: Path = ROOT, *, interval_minutes: int | None = None) -> list[Verdict]:
    """What vercel.json schedules; `interval_minutes` is what a deployment on Vercel expects."""
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
    """How far apart the calls of a simple schedule are; None when it is not simple."""
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
