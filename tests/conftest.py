"""What every test may ask for: a local Supabase, its database, and the API in this process or its own.

One stack is started per session, in a folder that goes with it. A test that uses it starts on empty tables.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from api.settings import Settings
from infra.local import ports
from infra.local.environment import ROOT
from infra.local.postgres import UNSAFE
from infra.local.stack import LocalSupabase, start_api
from tests import policies, recorded
from tests.database import migrated, truncate
from tests.in_process import client_of
from tests.recorded import record
from tests.server_folder import server_folder

BUCKET = "session-files"
LULL_VARIABLES = {
    "API_URL",
    "DATABASE_URL",
    "LULL_HOME",
    "PORT",
    "SERVICE_SECRET",
    "SUPABASE_ANON_KEY",
    "SUPABASE_JWT_SECRET",
    *(
        line.split("=")[0]
        for line in (ROOT / ".env.example").read_text().splitlines()
        if "=" in line and line[0] != "#"
    ),
}
# Many a test creates more drafts than anybody should: limits have tests of their own.
UNLIMITED = {
    "MAX_OPEN_DRAFTS_PER_OWNER": "0",
    "DRAFTS_PER_HOUR": "0",
    "MAX_OPEN_GAMES_PER_OWNER": "0",
    "ACTIVE_PER_HOUR": "0",
    "METADATA_BYTES_PER_HOUR": "0",
}
pytest_plugins = ["tests.sql_servers", "tests.transports"]


def pytest_configure(config: pytest.Config) -> None:
    """Let `tests.recorded` gather what the run saw."""
    config.pluginmanager.register(recorded)


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> None:
    """Forget what the developer's shell says to Lull and Postgres; ask no proxy for the loopback address."""
    for name in [name for name in os.environ if name in LULL_VARIABLES or name.startswith("PG")]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSupabase]:
    """The one local Supabase of this test session, migrated; `stack` is the same on empty tables."""
    with (
        server_folder(tmp_path_factory, "stack") as home,
        LocalSupabase(home, environ=os.environ, prepare=migrated, postgres_settings=UNSAFE) as stack,
    ):
        limits = Settings()
        stack.ensure_bucket(BUCKET, largest_file=limits.max_file_bytes, types=limits.allowed_file_types)
        yield stack


@pytest.fixture(scope="session")
def shared_connection(running_stack: LocalSupabase) -> Iterator[psycopg.Connection[DictRow]]:
    with psycopg.connect(running_stack.database_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@pytest.fixture
def stack(running_stack: LocalSupabase, shared_connection: psycopg.Connection[DictRow]) -> LocalSupabase:
    """The running local Supabase, with empty tables."""
    truncate(shared_connection)
    return running_stack


@pytest.fixture
def database_url(stack: LocalSupabase) -> str:
    """The URL of the stack's database, as superuser, on empty tables."""
    return stack.database_url


@pytest.fixture
def sql(stack: LocalSupabase, shared_connection: psycopg.Connection[DictRow]) -> psycopg.Connection[DictRow]:
    """An autocommit connection to the stack's database; rows are dicts."""
    return shared_connection


@pytest.fixture
def connect(database_url: str) -> Iterator[Callable[..., psycopg.Connection[DictRow]]]:
    """A factory of further connections to that database; autocommit unless told, closed after the test."""
    opened: list[psycopg.Connection[DictRow]] = []

    def new(*, autocommit: bool = True) -> psycopg.Connection[DictRow]:
        opened.append(psycopg.connect(database_url, autocommit=autocommit, row_factory=dict_row))
        return opened[-1]

    yield new
    for connection in opened:
        connection.close()


@pytest.fixture
def environment(stack: LocalSupabase) -> dict[str, str]:
    """The settings by which Lull reaches the stack, with the policies of the tests."""
    return stack.environment() | policies.ENVIRONMENT


@pytest.fixture
def api(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """The API in this process, on the stack; `sql` sees what it did."""
    from api.composition import create_app
    from api.settings import Settings

    for name, value in {**environment, **UNLIMITED}.items():
        if name != "DATABASE_URL":
            monkeypatch.setenv(name, value)
    with client_of(create_app(Settings.from_environ(os.environ))) as client:
        yield client


@pytest.fixture(scope="session")
def api_server(running_stack: LocalSupabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of one real uvicorn process for the whole session."""
    port, log = ports.find_free(), tmp_path_factory.mktemp("api") / "api.log"
    environment = running_stack.environment() | UNLIMITED | policies.ENVIRONMENT
    child = start_api(environment, port, environ=os.environ, log=log)
    yield f"http://{ports.HOST}:{port}"
    child.stop()


@pytest.fixture
def live_api(api_server: str, stack: LocalSupabase) -> Iterator[httpx.Client]:
    """A client of the API in a process of its own, over real HTTP, on empty tables."""
    hooks = {"response": [record]}
    with httpx.Client(base_url=api_server, timeout=60, trust_env=False, event_hooks=hooks) as client:
        yield client


@pytest.fixture
def admin(environment: dict[str, str]) -> dict[str, str]:
    """The headers of the administrator."""
    return {"Authorization": f"Bearer {environment['CRON_SECRET']}"}


@pytest.fixture
def checkout() -> Path:
    """The root of this checkout."""
    return ROOT


@pytest.fixture
def storage(stack: LocalSupabase) -> Iterator[httpx.Client]:
    """A client of the stack's Storage with the secret key; objects of earlier tests may be there."""
    key = stack.credentials.secret_key
    headers: dict[str, Any] = {"apikey": key, "Authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=f"{stack.supabase_url}/storage/v1", headers=headers, trust_env=False
    ) as client:
        yield client
