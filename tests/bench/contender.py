"""The contenders of a purge: what each is, and how it is run on a copy of its database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import uuid4

import httpx

from infra.local.environment import ROOT
from tests.bench.bases import Copy
from tests.bench.servers import Servers, hours_since, quiet

LONGEST_SECONDS = 900
_POLICY = """
[[policy]]
name = "stale-sessions{suffix}"
reason = "draft without a message"
target = "public.plain_sessions"
equals = {{ kind = "chat", status = "draft"{mode} }}
nulls = ["first_message_at"]
clock = "last_activity_at"
age = "24 h"
age_variable = "SESSION_CLEANUP_THRESHOLD_HOURS"
{kept}
"""


@dataclass(frozen=True)
class Started:
    """A contender that is ready: its process, and its work, which returns the seconds it took."""

    pid: int
    work: Callable[[], float]


@dataclass(frozen=True)
class Contender:
    """A way to purge. `limit` is how many rows it takes where all of them would take minutes."""

    name: str
    title: str
    shape: str
    start: Callable[[Servers, Copy, dict[str, str]], AbstractContextManager[Started]]
    limit: int | None = None
    remark: str = ""
    compared_with: str | None = "one-shot-plain"

    @property
    def variables(self) -> dict[str, str]:
        return {} if self.limit is None else {"LIMIT": str(self.limit)}


@contextmanager
def conversation(command: list[str], environ: dict[str, str]) -> Iterator[Started]:
    """Start a contender's process; it is killed when the block ends, if it has not ended then."""
    process = subprocess.Popen(
        command, env=environ, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    given, said = process.stdin, process.stdout
    too_late = Timer(LONGEST_SECONDS, process.kill)
    too_late.start()

    def work() -> float:
        print("go", file=given, flush=True)
        return float(json.loads(said.readline())["seconds"])

    try:
        if said.readline() != "ready\n":
            raise RuntimeError(f"{' '.join(command)} did not start")
        yield Started(process.pid, work)
        given.close()
        process.wait(10)
    finally:
        too_late.cancel()
        if process.poll() is None:
            process.kill()
        process.wait()
        said.close()


def _process(
    command: Callable[[Servers], list[str]], *, needs_rest: bool = False
) -> Callable[[Servers, Copy, dict[str, str]], AbstractContextManager[Started]]:
    @contextmanager
    def start(servers: Servers, copy: Copy, variables: dict[str, str]) -> Iterator[Started]:
        told = {"CUTOFF": copy.cutoff.isoformat(), "DATABASE_URL": servers.postgres.url(copy.database)}
        if copy.base.shape != "peers":
            told["SESSIONS"] = copy.base.tables.sessions
        environ = {**quiet(os.environ), **told, **variables}
        if not needs_rest:
            with conversation(command(servers), environ) as started:
                yield started
            return
        with (
            servers.project(copy.database) as project,
            conversation(command(servers), {**environ, **project.environment()}) as started,
        ):
            yield started

    return start


def python(module: str, *arguments: str) -> Callable[[Servers], list[str]]:
    """The command of a contender in Python."""
    return lambda _: [sys.executable, "-m", f"tests.bench.contenders.{module}", *arguments]


def _node(script: str) -> Callable[[Servers], list[str]]:
    return lambda servers: servers.node.command(script)


@contextmanager
def lull(
    servers: Servers, copy: Copy, variables: dict[str, str], *, archive: bool = False
) -> Iterator[Started]:
    """Lull as it runs anywhere: its API, called over HTTP. `archive` is for a team's plain tables; its own always are."""
    mode = variables.get("MODE")
    policy = "abandoned-drafts" if copy.base.shape == "lull" else f"stale-sessions{f'-{mode}' if mode else ''}"
    # In one run, on the slowest machine, too.
    settings = {"SESSION_CLEANUP_THRESHOLD_HOURS": hours_since(copy.cutoff), "CLEANUP_TIME_BUDGET_SECONDS": "840"}
    if copy.base.shape == "plain":
        settings["POLICIES_FILE"] = str(_policies_file(servers.home, copy.base.modes, archive))
    with (
        servers.project(copy.database) as project,
        servers.api(project, **settings) as api,
        httpx.Client(base_url=api.url, headers=api.admin, timeout=LONGEST_SECONDS, trust_env=False) as http,
    ):
        # a session that is not there: whatever a first call loads and opens, it is there now
        http.get(f"/api/sessions/{uuid4()}", headers=api.service)

        def work() -> float:
            query: dict[str, Any] = {"policy": policy, "maxRows": copy.base.stale}
            answer = http.post("/api/admin/cleanup-sessions", params=query)
            if answer.status_code != 200 or answer.json()["hasMore"]:
                raise RuntimeError(f"Lull did not finish: {answer.text}")
            return answer.elapsed.total_seconds()

        yield Started(api.pid, work)


def _policies_file(home: Path, modes: int, archive: bool) -> Path:
    """A team's own policies for its own tables."""
    each = [("", "")] if modes == 1 else [(f"-m{mode}", f', mode = "m{mode}"') for mode in range(modes)]
    kept = 'restore = "7 d"' if archive else "archive = false"
    path = home / "policies.toml"
    path.write_text("".join(_POLICY.format(suffix=suffix, mode=mode, kept=kept) for suffix, mode in each))
    return path


ONE_SHOT = Contender("one-shot-plain", "one DELETE", "plain", _process(python("one_shot")), remark="the limit")
LULL_PLAIN = Contender("lull-plain", "Lull, without archive", "plain", lull)
LULL_PLAIN_ARCHIVE = Contender(
    "lull-plain-archive", "Lull, with archive", "plain", partial(lull, archive=True)
)
SUPABASE_JS = Contender(
    "supabase-js", "supabase-js, chunks", "plain", _process(_node("supabase_js.mjs"), needs_rest=True)
)
SQLALCHEMY = Contender(
    "sqlalchemy", "SQLAlchemy, eager", "plain", _process(python("sqlalchemy_delete", "eager"))
)
SQLALCHEMY_LAZY = Contender(
    "sqlalchemy-lazy", "SQLAlchemy, lazy", "plain", _process(python("sqlalchemy_delete", "lazy")), limit=2000
)
AIRFLOW_LIKE = Contender(
    "airflow-like", "copy and DELETE", "plain", _process(python("airflow_like")), remark="parents only are kept"
)
CRON_STEPS = Contender("cron-steps", "Lull, by pg_cron's steps", "plain", _process(python("cron_steps")))
ONE_SHOT_LULL = Contender(
    "one-shot-lull", "one DELETE, Lull's tables", "lull", _process(python("one_shot")), remark="the limit",
    compared_with="one-shot-lull",
)
LULL_ARCHIVE = Contender(
    "lull-archive", "Lull, archive and events", "lull", lull, compared_with="one-shot-lull"
)
_OWN_TABLE = "its own table, which has no children"
DJANGO = Contender(
    "django", "Django's clearsessions", "peers", _process(python("django_clearsessions")), remark=_OWN_TABLE,
    compared_with=None,
)
CONNECT_PG_SIMPLE = Contender(
    "connect-pg-simple", "connect-pg-simple's prune", "peers", _process(_node("connect_pg_simple.mjs")),
    remark=_OWN_TABLE, compared_with=None,
)
CONTENDERS = (
    ONE_SHOT, LULL_PLAIN, LULL_PLAIN_ARCHIVE, CRON_STEPS, SUPABASE_JS, SQLALCHEMY, SQLALCHEMY_LAZY, AIRFLOW_LIKE,
    ONE_SHOT_LULL, LULL_ARCHIVE, DJANGO, CONNECT_PG_SIMPLE,
)
TITLES = {contender.name: contender.title for contender in CONTENDERS}
