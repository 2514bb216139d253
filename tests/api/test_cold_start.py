"""A cold start imports what its request needs, and every measure that shortens it can be turned off."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.composition import create_app
from api.features import FEATURES
from api.http.feature_app import Feature
from infra.local.stack import LocalSupabase
from tests.callers import problem_of
from tests.calls import add_session, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]

# Each package here adds milliseconds to every cold start: import another one where it is used instead.
PACKAGES = {
    "annotated_doc", "annotated_types", "anyio", "fastapi", "opentelemetry", "pydantic", "pydantic_core",
    "starlette", "typing_extensions", "typing_inspection",
}  # fmt: skip
# postgrest is the part of supabase-py that is in use here; the others are what it imports.
TRANSPORTS = {
    "postgrest": {
        "postgrest", "certifi", "deprecation", "h11", "httpcore", "httpx", "idna", "multidict", "packaging",
        "propcache", "yarl",
    },
    "direct": {"psycopg", "psycopg_binary"},
}  # fmt: skip
# Parts of packages that are there: what FastAPI asks for pydantic 1 with, anyio's threads, httpx's command line.
PARTS = {"pydantic.v1", "anyio._backends._asyncio", "httpx._main"}
POLICIES = {"api.cleanup", "api.cleanup.policies"}  # a wrong policies file stops the start

SCRIPT = """
import asyncio, gc, hashlib, json, sys

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
answer = {"status": answers[0], "built": built, "modules": modules, "collects": gc.isenabled()}
answer["left_out"] = [name for name, module in sys.modules.items() if module is None]
answer["document"] = hashlib.sha256(json.dumps(app.openapi()).encode()).hexdigest()
print(json.dumps(answer))
"""


def answer_of_an_activation(
    stack: LocalSupabase, checkout: Path, session: str, *hidden: str, **more: str
) -> dict[str, Any]:
    """Activate a session in a fresh interpreter: the status, and what was imported (each module's file) and built."""
    environment = {name: value for name, value in stack.environment().items() if name not in hidden}
    command = [sys.executable, "-c", SCRIPT, f"/api/sessions/{session}/activate", environment["SERVICE_SECRET"]]
    environ = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1", **environment, **more}
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(("transport", "hidden"), [("postgrest", "DATABASE_URL"), ("direct", "SUPABASE_URL")])
def test_an_activation_imports_no_package_and_no_feature_that_it_does_not_use(
    transport: str, hidden: str, stack: LocalSupabase, sql: Sql, checkout: Path
) -> None:
    answer = answer_of_an_activation(stack, checkout, add_session(sql), hidden)
    modules = answer["modules"]
    assert answer["status"] == 200
    assert not answer["built"], "the models of a document were built, and no document was asked for"
    packages = {name.partition(".")[0] for name, file in modules.items() if "site-packages" in file}
    assert packages - PACKAGES - TRANSPORTS[transport] == set()
    others = ("api.cleanup", "api.doctor", "api.events", "api.insight")
    assert {name for name in modules if name.startswith(others)} == POLICIES
    assert not {"api.storage", "api.auth.access_tokens", "api.sessions.files", *PARTS} & modules.keys()


def test_the_transport_is_imported_and_made_before_the_first_request(
    stack: LocalSupabase, checkout: Path
) -> None:
    code = "import sys; from api.index import app; print({'httpcore', 'psycopg'} & sys.modules.keys())"
    for hidden, imported in (("DATABASE_URL", "{'httpcore'}"), ("SUPABASE_URL", "{'psycopg'}")):
        environ = {name: value for name, value in stack.environment().items() if name != hidden}
        command, environ = [sys.executable, "-c", code], {"PATH": os.environ["PATH"], **environ}
        done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == imported


def test_http_2_works_in_a_process_that_left_it_out(checkout: Path) -> None:
    code = """
from api.index import app
import api.database.postgrest, httpx
with httpx.Client(http2=True):
    import h2.config
print(h2.config.H2Configuration.__name__)
"""
    environ = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["H2Configuration"]


def test_a_long_lived_host_imports_all_features_at_start(checkout: Path) -> None:
    code = "import sys; from infra.local.api import create_app; create_app(); print(*sys.modules)"
    environ = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=True)
    assert {feature.module for feature in FEATURES} <= set(done.stdout.split())


def test_each_address_of_the_document_opens_exactly_one_feature() -> None:
    paths = create_app(settings()).openapi()["paths"]
    assert paths
    for path in paths:
        assert [feature.name for feature in FEATURES if feature.matches(path)] != [], path
        assert len([feature.name for feature in FEATURES if feature.matches(path)]) == 1, path


def test_the_paths_of_a_feature_are_those_of_its_routes_and_anchored_at_both_ends() -> None:
    for feature in FEATURES:
        routes = {re.sub(r"\{\w+\}", "{}", route.path) for route in import_module(feature.module).router.routes}
        assert {re.sub(r"\{\w+\}", "{}", path) for path in feature.paths} == routes, feature.name
        assert not any(feature.matches(f"/x{path}") or feature.matches(f"{path}x/y/y/y/y/y") for path in feature.paths)


def test_a_feature_that_cannot_be_imported_is_a_fault_in_the_log_and_no_trouble_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = create_app(settings())
    app._closed.append(Feature("broken", ("/api/broken",), "tests.api.no_such_module"))
    with client_of(app) as client:
        answer = client.get("/api/broken")
        assert problem_of(answer) == (500, "internal-error")
        assert "no_such_module" in capsys.readouterr().out
        assert client.get("/api/health").status_code == 200


def test_a_feature_that_two_requests_need_at_once_is_opened_once() -> None:
    app = create_app(settings())
    before = len(app.router.routes)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(app.open_features, ["/api/admin/deliver"] * 8))
    assert len(app.router.routes) == before + 1


def test_the_api_answers_the_same_without_the_measures(
    stack: LocalSupabase, sql: Sql, checkout: Path
) -> None:
    quick = answer_of_an_activation(stack, checkout, add_session(sql))
    plain = answer_of_an_activation(stack, checkout, add_session(sql), LULL_PLAIN_START="true")
    assert quick["collects"] and plain["collects"]
    assert quick["left_out"] == plain["left_out"] == []
    assert quick["status"] == plain["status"] == 200
    assert quick["document"] == plain["document"]
    assert quick["built"] is False and plain["built"] is True
