"""Calls of functions through PostgREST from 16 clients, and functions of the benchmark's own to compare them with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus

import httpx

from infra.local.environment import ROOT
from tests.bench.servers import Project, quiet

_PER_SECOND_AT_MOST = 6_000


def add_function(project: Project, sql: str, name: str, arguments: dict[str, object]) -> None:
    """Create a function for the service role; returns once PostgREST knows it, by calling it with these arguments."""
    with project.connect() as connection:
        connection.execute(sql.encode())
        connection.execute("notify pgrst, 'reload schema'")
    url = f"{project.url}/rest/v1/rpc/{name}"
    keys = {"Authorization": f"Bearer {project.keys.secret_key}", "apikey": project.keys.secret_key}
    deadline = time.monotonic() + 30
    while httpx.post(url, json=arguments, headers=keys, trust_env=False).status_code == HTTPStatus.NOT_FOUND:
        if time.monotonic() > deadline:
            raise RuntimeError(f"PostgREST does not know {name}")
        time.sleep(0.1)


def load(project: Project, function: str, bodies: Iterator[str], seconds: float) -> dict[str, float]:
    """Call a function for so many seconds; each call takes a body, JSON without blanks. Raises when one is refused."""
    given = [body for body, _ in zip(bodies, range(int(seconds * _PER_SECOND_AT_MOST)), strict=False)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", project.url, f"/rest/v1/rpc/{function}", "{id}", str(seconds)],
        env={**quiet(os.environ), "BEARER": project.keys.secret_key},
        cwd=ROOT,
        input="\n".join(given),
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout)
    if measured["failed"]:
        raise RuntimeError(f"{function} answered: {measured['first_failure']}")
    return {name: measured[name] for name in ("requests_per_second", "p50_ms", "p99_ms")}
