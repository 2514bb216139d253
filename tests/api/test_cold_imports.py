"""A cold start imports what its request needs: the first answer is what somebody waits for."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import APIRouter

from api.index import create_app
from infra.local.stack import LocalSupabase
from tests.callers import problem_of
from tests.calls import add_session, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]

# One more here is some milliseconds more for everybody who comes first: import it where it is used instead.
PACKAGES = {
    "annotated_doc", "annotated_types", "anyio", "fastapi", "opentelemetry", "pydantic", "pydantic_core",
    "starlette", "typing_extensions", "typing_inspection",
}  # fmt: skip
TRANSPORTS = {"postgrest": set[str](), "direct": {"psycopg", "psycopg_binary"}}
# Parts of packages that are there: what FastAPI asks for pydantic 1 with, anyio's threads, a look at proxies.
PARTS = {"pydantic.v1", "anyio._backends._asyncio", "urllib.request"}
WINGS = {"api.cleanup", "api.cleanup.policies"}  # a wrong policies file stops the start

SCRIPT = """
import asyncio, json, sys

before = set(sys.modules)
from api.index import app

answers = []

async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}

async def send(message):
    answers.append(message.get("status"))

scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": sys.argv[1]}
scope |= {"raw_path": b"", "query_string": b"", "root_path": "", "client": ("192.0.2.1", 1)}
scope |= {"headers": [(b"authorization", b"Bearer " + sys.argv[2].encode())]}
asyncio.run(app(scope, receive, send))
modules = {name: getattr(sys.modules[name], "__file__", None) or "" for name in set(sys.modules) - before}
models = sys.modules["fastapi.openapi.models"]
built = models.OpenAPI.__pydantic_complete__ or models.Schema.__pydantic_complete__
print(json.dumps([answers[0], built, modules]))
"""


def imported_by_an_activation(stack: LocalSupabase, checkout: Path, session: str, *hidden: str) -> dict[str, str]:
    """Activate a session in a fresh interpreter; return every module it imported, and its file."""
    environment = {name: value for name, value in stack.environment().items() if name not in hidden}
    command = [sys.executable, "-c", SCRIPT, f"/api/sessions/{session}/activate", environment["SERVICE_SECRET"]]
    environ = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", **environment}
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=True)
    status, built, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 200, done.stdout
    assert not built, "the models of a document were built, and nobody has asked for one"
    return dict(modules)


@pytest.mark.parametrize(("transport", "hidden"), [("postgrest", "DATABASE_URL"), ("direct", "SUPABASE_URL")])
def test_an_activation_imports_no_package_and_no_wing_that_it_does_not_use(
    transport: str, hidden: str, stack: LocalSupabase, sql: Sql, checkout: Path
) -> None:
    modules = imported_by_an_activation(stack, checkout, add_session(sql), hidden)
    packages = {name.partition(".")[0] for name, file in modules.items() if "site-packages" in file}
    assert packages - PACKAGES - TRANSPORTS[transport] == set()
    wings = {name for name in modules if name.startswith(("api.cleanup", "api.events", "api.insight"))}
    assert wings == WINGS
    assert not {"api.file_storage", "api.access_tokens", "api.sessions.files", *PARTS} & modules.keys()


def test_every_address_opens_its_own_wing() -> None:
    document = create_app(settings()).openapi()
    assert document["paths"]
    for path in document["paths"]:
        with client_of(create_app(settings())) as client:
            assert client.request("TRACE", path).status_code == 405, path


def test_a_wing_that_cannot_be_imported_is_a_fault_in_the_log_and_no_other_wings_trouble(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = create_app(settings())

    def broken() -> APIRouter:
        raise ImportError("a detail of the inside")

    app.add_wing("/api/broken", broken)
    with client_of(app) as client:
        answer = client.get("/api/broken")
        assert problem_of(answer) == (500, "internal-error")
        assert "a detail of the inside" in capsys.readouterr().out
        assert client.get("/api/health").status_code == 200


def test_wings_that_are_opened_at_once_are_opened_once() -> None:
    app = create_app(settings())
    made: list[str] = []

    def slow() -> APIRouter:
        made.append("once")
        time.sleep(0.05)
        return APIRouter()

    app.add_wing("/api/slow", slow)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(app.open_wings, ["/api/slow"] * 8))
    assert made == ["once"]
