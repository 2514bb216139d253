"""What the pages' commands meet: a running Lull as after `make dev`, with a night's work before it."""

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import DictRow

from infra.local import ports
from infra.local.stack import LocalSupabase, start_api
from tests import policies
from tests.calls import add_session
from tests.conftest import UNLIMITED
from tests.sql.driver import run_cleanup


@pytest.fixture(scope="session")
def docs_server(running_stack: LocalSupabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an API with early drafts turned on, as the pages assume."""
    port, log = ports.find_free(), tmp_path_factory.mktemp("docs") / "api.log"
    early = {"ENABLE_EARLY_SESSION_CREATION": "true"}
    environment = running_stack.environment() | UNLIMITED | policies.ENVIRONMENT | early
    child = start_api(environment, port, environ=os.environ, log=log)
    yield f"http://{ports.HOST}:{port}"
    child.stop()


@pytest.fixture
def night(sql: psycopg.Connection[DictRow]) -> dict[str, str]:
    """Sessions of every kind, a run that took some of them; the ids that the pages' placeholders stand for."""
    for kind, status in [("chat", "draft"), ("game", "active"), ("room", "active")]:
        add_session(sql, kind, status, age="30 h")
    report = run_cleanup(sql)
    add_session(sql, "chat", "active", age="3 d", first_message_at="2026-01-01")
    return {"<runId>": report["run_id"], "<sessionId>": add_session(sql, age="2 h")}
