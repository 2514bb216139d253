"""The same suite through Debian's PgBouncer in transaction mode, as Supabase's pooler: nothing may last beyond a call."""

import os
import pwd
import shutil
import signal
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.database import Database
from api.errors import Problem
from api.settings import Settings
from infra.local import ports
from infra.local.privileges import run_as
from infra.local.processes import Child
from infra.local.stack import LocalSupabase
from tests.api.test_database_conformance import *  # noqa: F403
from tests.api.test_database_faults import (  # noqa: F401
    test_a_call_that_is_no_longer_awaited,
    test_a_call_that_lost_its_connection_is_not_repeated,
    test_a_function_is_stopped_in_the_server_after_its_own_time_out,
    test_sixteen_threads_share_one_door,
)
from tests.api.test_database_flows import *  # noqa: F403
from tests.calls import settings
from tests.transports import as_login, call

# Two connections to the server for all of its clients.
CONFIGURATION = """
[databases]
postgres = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 2
"""


@pytest.fixture
def transport() -> str:
    """One way only."""
    return "pooler"


@pytest.fixture(scope="session")
def pooler(running_stack: LocalSupabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a pooler in front of the stack's database."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer here (Debian: apt-get install pgbouncer)")
    folder, port, server = tmp_path_factory.mktemp("pooler"), ports.find_free(), urlsplit(running_stack.database_url)
    (folder / "users.txt").write_text(f'"{server.username}" "{server.password}"\n')
    (folder / "pgbouncer.ini").write_text(CONFIGURATION.format(server=server.port, port=port, folder=folder))
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None  # it refuses to run as root
    configured = [program, str(folder / "pgbouncer.ini")]
    command = run_as(user, configured, parent_death=signal.SIGTERM, may_read_all=True)  # pytest's folders are root's
    child = Child("pgbouncer", command, environ=dict(os.environ), log=folder / "pgbouncer.log")
    try:
        child.wait_ready(lambda: ports.answers(port))
        yield running_stack.database_url.replace(f":{server.port}/", f":{port}/")
    finally:
        child.stop()


@pytest.fixture
def settings_for(running_stack: LocalSupabase, probes: None, pooler: str) -> Callable[..., Settings]:
    """Makes settings that lead to the stack through the pooler, or through PostgREST."""

    def made(transport: str, **changes: Any) -> Settings:
        pooled = {} if transport == "postgrest" else {"database_url": pooler}
        return settings(running_stack.environment(), **{**pooled, **changes})

    return made


@pytest.mark.parametrize("user", ["ada:secret", "postgres:wrong"])
def test_a_wrong_login_is_a_503_that_names_the_variable(settings_for: Callable[..., Settings], pooler: str, user: str) -> None:
    with pytest.raises(Problem, match="check DATABASE_URL"):
        call(Database(settings_for("pooler", database_url=as_login(pooler, user))), "probe_read")
