"""Stores of user sessions beside what people use: get and update at 16 clients, pruning, and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import redis

from infra.local.environment import ROOT
from tests.bench.context import Context
from tests.bench.dataset import Connection
from tests.bench.servers import quiet
from tests.bench.session_fill import fill
from tests.user_sessions.redis_server import PROGRAM, redis_server

REDIS_CASES = (
    "lull-get", "bare-get", "starsessions-get", "lull-update", "bare-update", "watch-multi", "starsessions-update",
)  # fmt: skip
POSTGRES_CASES = ("lull-get", "lull-set", "connect-pg-simple-get", "connect-pg-simple-set")
_PRUNED = ("lull-redis", "lull-postgres", "connect-pg-simple")
_AT_ONCE = 10_000

_FILL = """
insert into lull.user_sessions (namespace, user_id, data, version, updated_at)
select 'app', 'user ' || n, '{"current_model_name": "a model", "visits": 0, "recent": ["one", "two", "three"]}', md5(n::text),
  now() - case when n <= %s then interval '20 hours' else interval '1 hour' end
from generate_series(1, %s) n
"""
_VACUUM = "vacuum (analyze) lull.user_sessions"

Measured = dict[str, float]


def user_sessions(context: Context) -> None:
    """Redis and Postgres, each contender in turn, round by round."""
    if PROGRAM is None:
        print("  left out: there is no redis-server")
        return
    _on_redis(context)
    _on_postgres(context)


def _on_redis(context: Context) -> None:
    folder = context.servers.home / "redis"
    folder.mkdir(exist_ok=True)
    with redis_server(folder) as url:
        _rounds(context, "redis", REDIS_CASES, lambda case, seconds: _clients(url, case, seconds))
        few, many = context.size.pruned_user_sessions
        for stale in (few, many):
            _fill_redis(url, stale + stale // 10, stale)
            with context.said(f"redis, {stale:,} pruned") as words:
                measured = _clients(url, "prune", 0)
                context.results.add("user-sessions-memory", str(stale), 1, **measured)
                words += [f"{stale / measured['seconds']:,.0f}/s", f"{measured['peak_memory_mb']:.1f} MB"]
        _fill_redis(url, context.size.user_sessions, context.size.user_sessions // 10)
        _pruned_beside(context, "lull-redis", lambda: _start(url, "prune"), lambda: _clients(url, "lull-get", 1))


def _on_postgres(context: Context) -> None:
    rows, stale = context.size.user_sessions, context.size.user_sessions // 10
    with context.bases.copy(context.size.peers) as copy, context.servers.connect(copy.database) as connection:
        _fill_postgres(connection, rows, stale)
        url = context.servers.postgres.url(copy.database)

        def clients(case: str, seconds: float) -> Measured:
            name, _, operation = case.rpartition("-")
            return _express(context, url, operation, seconds) if name == "connect-pg-simple" else _clients(url, case, seconds)

        _rounds(context, "postgres", POSTGRES_CASES, clients)
        _pruned_beside(context, "lull-postgres", lambda: _start(url, "prune"), lambda: clients("lull-get", 1))
        _pruned_beside(
            context,
            "connect-pg-simple",
            lambda: _start_express_prune(context, url),
            lambda: clients("connect-pg-simple-get", 1),
        )


def _rounds(
    context: Context, store: str, cases: Sequence[str], measure: Callable[[str, float], Measured]
) -> None:
    """Every case in each round, in another order: a slow moment meets each of them."""
    for turn in range(1, context.size.user_session_rounds + 1):
        for case in (*cases[turn % len(cases) :], *cases[: turn % len(cases)]):
            measured = measure(case, context.size.user_session_seconds)
            context.results.add(f"user-sessions-{store}", case, turn, **measured)
    for case in cases:
        print(f"  {store}, {case}: {context.results.median(f'user-sessions-{store}', case, 'per_second'):,.0f}/s")


def _pruned_beside(
    context: Context, case: str, start: Callable[[], subprocess.Popen[str]], read: Callable[[], Measured]
) -> None:
    """Prune a tenth of the records while sixteen clients read, as they did before."""
    stale = context.size.user_sessions // 10
    with context.said(f"{case}, {stale:,} of {context.size.user_sessions:,} pruned") as words:
        idle = read()["per_second"]
        pruning = start()
        beside = read()["per_second"]
        said, errors = pruning.communicate()
        if pruning.returncode:
            raise RuntimeError(errors)
        seconds = json.loads(said.splitlines()[-1])["seconds"]
        context.results.add(
            "user-sessions-prune", case, 1, rows_per_second=stale / seconds, reads_idle=idle, reads_beside=beside
        )
        words += [f"{stale / seconds:,.0f}/s", f"reads {idle:,.0f}/s before and {beside:,.0f}/s meanwhile"]


def _clients(url: str, case: str, seconds: float) -> Measured:
    said, errors = (started := _start(url, case, seconds)).communicate()
    if started.returncode:
        raise RuntimeError(f"{case}: {errors}")
    measured: Measured = json.loads(said)
    return measured


def _start(url: str, case: str, seconds: float = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bench.session_clients", case, str(seconds)]
    return _process(command, url)


def _express(context: Context, url: str, operation: str, seconds: float) -> Measured:
    command = [*context.servers.node.command("connect_pg_simple_clients.mjs"), operation, str(seconds)]
    done = _process(command, url)
    said, errors = done.communicate()
    if done.returncode:
        raise RuntimeError(f"connect-pg-simple: {errors}")
    measured: Measured = json.loads(said)
    return measured


def _start_express_prune(context: Context, url: str) -> subprocess.Popen[str]:
    started = _process(context.servers.node.command("connect_pg_simple.mjs"), url, stdin=subprocess.PIPE)
    assert started.stdin and started.stdout
    started.stdout.readline()  # ready
    started.stdin.write("go\n")
    started.stdin.flush()
    return started


def _process(command: Sequence[str], url: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    environ = {**quiet(os.environ), "STORE_URL": url, "DATABASE_URL": url}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environ, cwd=ROOT, text=True, stdin=stdin, stdout=pipe, stderr=pipe)


def _fill_redis(url: str, rows: int, stale: int) -> None:
    """Records as the store writes them, of which so many were last used 20 hours ago."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        for begin in range(0, rows, _AT_ONCE):
            fill(client, range(begin, min(rows, begin + _AT_ONCE)), stale)


def _fill_postgres(connection: Connection, rows: int, stale: int) -> None:
    connection.execute("truncate lull.user_sessions")
    connection.execute(_FILL, (stale, rows))
    connection.execute(_VACUUM)
