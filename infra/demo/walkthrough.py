"""Show a cleanup on a local Supabase of its own: dry run, run, dry run again, and the sessions that stayed."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import psycopg

from api.cleanup.policies import load_policies
from api.settings import Settings
from infra import migrate
from infra.demo import sessions, staying
from infra.local import ports
from infra.local.environment import home
from infra.local.errors import StackError
from infra.local.postgres import UNSAFE
from infra.local.signals import StopRequested, stopping_on_signals
from infra.local.stack import LocalSupabase, start_api

CLEANUP = "/api/admin/cleanup-sessions"
Report = dict[str, Any]


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Run the demo. Returns 0 when all checks passed."""
    argparse.ArgumentParser(prog="python -m infra demo", description=__doc__).parse_args(argv)
    folder = home(environ) / "demo"
    try:
        with stopping_on_signals():
            return _run(folder, environ)
    except StopRequested:
        say("stopped")
        return 130
    except StackError as error:
        print(f"\nlull: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def say(line: str = "") -> None:
    """Print one line at once."""
    print(line, flush=True)


def _run(folder: Any, environ: Mapping[str, str]) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    # The demo never touches a project that the shell is set up for: none of Lull's variables are passed on.
    environ = {name: value for name, value in environ.items() if name not in _lull_variables()}
    say("Starting a local Supabase for this demo (it is deleted at the end):")
    with LocalSupabase(
        folder,
        environ=environ,
        report=lambda line: say(f"  {line}"),
        prepare=_migrate,
        postgres_settings=UNSAFE,
    ) as supabase:
        supabase.ensure_bucket(sessions.BUCKET)
        port = ports.find_free()
        api = start_api(supabase.environment(), port, environ=environ, log=folder / "api.log")
        try:
            return _walk_through(supabase, f"http://{ports.HOST}:{port}")
        finally:
            api.stop()
            say("\nEverything is stopped, and the demo's data is deleted.")


def _lull_variables() -> set[str]:
    own = {name.upper() for name in Settings.model_fields}
    return own | {"SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_JWT_SECRET", "SERVICE_SECRET", "DATABASE_URL"}


def _migrate(database_url: str) -> None:
    started = time.monotonic()
    migrate.apply(database_url, [policy.arguments() for policy in load_policies(Settings.model_construct())])
    say(f"  migrations: applied in {time.monotonic() - started:.1f} s")


def _walk_through(supabase: LocalSupabase, url: str) -> int:
    credentials = supabase.credentials
    key = {"apikey": credentials.secret_key, "Authorization": f"Bearer {credentials.secret_key}"}
    admin = {"Authorization": f"Bearer {credentials.cron_secret}"}
    with (
        psycopg.connect(supabase.database_url, autocommit=True) as database,
        httpx.Client(base_url=f"{supabase.supabase_url}/storage/v1", headers=key, trust_env=False) as storage,
        httpx.Client(base_url=url, headers=admin, timeout=60, trust_env=False) as client,
    ):
        _last_week(database, storage, client)
        loaded = sessions.load(database, storage, sessions.GROUPS)
        sessions.load_user_sessions(database)
        say(f"  loaded {loaded:,} sessions with their participants and files\n")
        before = staying.rows(database)
        bytes_due = staying.bytes_due(database)

        dry = _call(client, "GET")
        run = _call(client, "POST")
        again = _call(client, "GET")

        say("One night's cleanup, policy by policy:\n")
        say(_table(dry, run))
        say(f"\n{run['files']['removed']} files of drafts archived last week were removed from Storage.")
        say("Tonight's rows are archived: for as long as the last column says, each can come back whole.\n")
        say("What was kept, and why:\n")
        say(_staying_table(staying.counts(database)))
        return _check(dry, run, again, database, before, bytes_due)


def _last_week(database: sessions.Connection, storage: httpx.Client, client: httpx.Client) -> None:
    """Let a run archive a few drafts, then age the archive by eight days, so that the next run purges it."""
    sessions.load(database, storage, [sessions.LAST_WEEK], seed=7)
    _call(client, "POST")
    database.execute("update lull.archive_pages set purge_after = purge_after - interval '8 days'")


def _call(client: httpx.Client, method: str) -> Report:
    response = client.request(method, CLEANUP)
    if response.status_code != 200:
        raise StackError(f"{method} {CLEANUP} answered {response.status_code}: {response.text}")
    answer: Report = response.json()
    return answer


def _table(dry: Report, run: Report) -> str:
    would = {line["name"]: line["wouldDelete"] for line in dry["policies"]}
    rows = [["policy", "would", "did", "cascaded rows", "files", "ms", "restorable"]]
    for line in sorted(run["policies"], key=lambda line: list(would).index(line["name"])):
        window = f"{line['restoreDays']} days" if line["archived"] else "-"
        counts = [would[line["name"]], line["deleted"], line["cascaded"], line["files"], line["ms"]]
        rows.append([line["name"], *(f"{count:,}" for count in counts), window])
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Align a table: the first column left, the others right, a rule below the heading."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _staying_table(counts: Mapping[str, int]) -> str:
    rows = [["why it stays", "sessions"], *([why, f"{count:,}"] for why, count in counts.items())]
    return columns([*rows, ["together", f"{sum(counts.values()):,}"]])


def _check(
    dry: Report, run: Report, again: Report, database: sessions.Connection, before: set[str], bytes_due: int
) -> int:
    """Print the result of each check. Returns 0 when all passed."""
    shown = {line["name"]: line["wouldDelete"] for line in dry["policies"]}
    done = {line["name"]: line["deleted"] for line in run["policies"]}
    checks = {
        "the run deleted what the dry run had shown, policy by policy": shown == done
        and sum(done.values()) > 0,
        "every stale session went, and the counts of what was kept are those that were loaded": (
            staying.counts(database) == sessions.staying()
        ),
        "no active chat, paused, ended, held or fresh session was touched: each row is as before": (
            staying.rows(database) == before
        ),
        "a second dry run says 0": all(line["wouldDelete"] == 0 for line in again["policies"]),
        "the bytes of purged archives went, and no others": run["files"]["removed"] == bytes_due > 0,
    }
    say()
    for what, right in checks.items():
        say(f"  {'ok   ' if right else 'WRONG'}  {what}")
    return 0 if all(checks.values()) else 1
