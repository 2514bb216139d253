"""Activations over HTTP: how many a second when everything is warm, and how soon after a process starts.

Lull's API, once for each transport that it has, and a Node server that calls the same function through supabase-js.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from infra.local import ports
from infra.local.environment import ROOT
from infra.local.processes import Child
from tests.bench.context import Context
from tests.bench.servers import HAS_DIRECT_TRANSPORT, Project, Servers, api_environment, quiet, uvicorn

NODE, POSTGREST = "node-supabase-js", "lull-postgrest"
_DIRECT = ("lull-direct",) if HAS_DIRECT_TRANSPORT else ()
SERVED = (POSTGREST, *_DIRECT, NODE)
_PATH = "/api/sessions/{id}/activate"
_RPC = "/rest/v1/rpc/lull_activate_session"
_RPC_BODY = '{"p_session": "{id}", "p_caller": {"service": true}}'
_PER_SECOND_AT_MOST = 6_000


def _server(servers: Servers, project: Project, name: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of one of the servers."""
    if name == NODE:
        environ = {**quiet(os.environ), **project.environment(), "PORT": str(port)}
        return servers.node.command("node_activate.mjs"), environ
    return uvicorn(port), api_environment(project, {}, direct=name == "lull-direct")


def warm(context: Context) -> None:
    """Activate at 16 clients; PostgREST by itself, too, for what the servers in front of it add."""
    with context.bases.copy(context.size.lull) as copy, context.servers.project(copy.database) as project:
        ids = _drafts(project)
        with ExitStack() as running:
            urls = {"postgrest": project.url}
            for name in SERVED:
                port = ports.find_free()
                command, environ = _server(context.servers, project, name, port)
                child = Child(name, command, environ=environ, cwd=ROOT, log=context.servers.home / f"{name}.log")
                running.callback(child.stop)
                child.wait_ready(partial(ports.answers, port))
                urls[name] = f"http://{ports.HOST}:{port}"
                _load(project, name, urls[name], ids, 1)
            for turn in range(1, context.size.rounds + 1):
                for name, url in urls.items():
                    with context.said(f"round {turn}, {name}") as words:
                        measured = _load(project, name, url, ids, context.size.warm_seconds)
                        context.results.add("warm", name, turn, **measured)
                        words += [f"{measured['requests_per_second']:.0f}/s"]


def _load(project: Project, name: str, url: str, ids: Iterator[str], seconds: float) -> dict[str, float]:
    path, body = (_RPC, _RPC_BODY) if name == "postgrest" else (_PATH, "")
    key = project.keys.secret_key if name == "postgrest" else project.keys.service_secret
    given = [next(ids) for _ in range(int(seconds * _PER_SECOND_AT_MOST))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", url, path, body, str(seconds)],
        env={**quiet(os.environ), "BEARER": key},
        cwd=ROOT,
        input="\n".join(given),
        capture_output=True,
        text=True,
        check=True,
    )
    measured = json.loads(done.stdout)
    if measured["failed"]:
        raise RuntimeError(f"{name} answered: {measured['first_failure']}")
    return {name: measured[name] for name in ("requests_per_second", "p50_ms", "p99_ms")}


def cold(context: Context) -> None:
    """Start a server, and activate as soon as it listens; bytecode was written before."""
    with context.bases.copy(context.size.lull) as copy, context.servers.project(copy.database) as project:
        ids = _drafts(project)
        for turn in range(context.size.cold_starts + 1):
            for name in SERVED:
                milliseconds = 1000 * _first_answer(context.servers, project, name, next(ids))
                if turn:  # the first one of each writes bytecode and reads everything from the disk
                    context.results.add("cold", name, turn, first_answer_ms=milliseconds)
    for name in SERVED:
        print(f"  {name}: {context.results.median('cold', name, 'first_answer_ms'):.0f} ms")


def _first_answer(servers: Servers, project: Project, name: str, session: str) -> float:
    """Seconds from the start of a process to the answer to an activation."""
    port = ports.find_free()
    command, environ = _server(servers, project, name, port)
    headers = {"Authorization": f"Bearer {project.keys.service_secret}"}
    log = (servers.home / f"{name}.log").open("wb")
    began = time.perf_counter()
    with log, subprocess.Popen(command, env=environ, cwd=ROOT, stdout=log, stderr=log) as process:
        try:
            while True:
                caller = http.client.HTTPConnection(ports.HOST, port, timeout=30)
                try:
                    caller.request("POST", _PATH.replace("{id}", session), headers=headers)
                    break
                except ConnectionRefusedError:
                    if process.poll() is not None or time.perf_counter() - began > 30:
                        raise
                    time.sleep(0.002)
            answer = caller.getresponse()
            body = answer.read()
            took = time.perf_counter() - began
            caller.close()
        finally:
            process.kill()
    if answer.status != 200:
        raise RuntimeError(f"{name} answered {answer.status}: {body.decode()}")
    return took


def _drafts(project: Project) -> Iterator[str]:
    """Drafts, each once, and then again: activating one again is a request like any other, but a cheaper one."""
    with project.connect() as connection:
        rows = connection.execute("select id from lull.sessions where status = 'draft' order by md5(id::text)").fetchall()
    while True:
        yield from (str(row[0]) for row in rows)
