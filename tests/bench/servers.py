"""The servers of the benchmarks: one Postgres, and for a database of it PostgREST and the API, as a user runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb

from api.cleanup.policies import load_policies
from api.settings import Settings
from infra.local import credentials, ports, postgrest
from infra.local.environment import ROOT, for_children
from infra.local.postgres import UNSAFE, LocalPostgres
from infra.local.processes import Child
from infra.local.stack import lock
from tests.bench.dataset import Connection
from tests.bench.nodejs import Node, find_node

# No checkpoint and no vacuum falls into one contender's time and not into another's.
_SETTINGS = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "4GB",
    "min_wal_size": "4GB",
    "maintenance_work_mem": "512MB",
    "log_line_prefix": "%d|",
    "log_min_duration_statement": "10",  # what measures.longest_statement reads
    "log_parameter_max_length": "0",
}
HAS_DIRECT_TRANSPORT = "database_url" in Settings.model_fields
RUNNER = "bench"  # the runner's own connections, by their application_name


@dataclass(frozen=True)
class Project:
    """A database with PostgREST, reached as a Supabase project is."""

    database: str
    database_url: str
    url: str
    keys: credentials.Credentials

    def connect(self) -> Connection:
        return psycopg.connect(self.database_url, autocommit=True, application_name=RUNNER)

    def environment(self) -> dict[str, str]:
        """What contenders are told."""
        return {
            "DATABASE_URL": self.database_url,
            "SUPABASE_URL": self.url,
            "SUPABASE_SECRET_KEY": self.keys.secret_key,
            "SERVICE_SECRET": self.keys.service_secret,
        }


@dataclass(frozen=True)
class Api:
    """A running API."""

    url: str
    pid: int
    keys: credentials.Credentials

    @property
    def admin(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys.cron_secret}"}

    @property
    def service(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys.service_secret}"}


class Servers:
    """Postgres in `home`, and what is started in front of its databases. Use it as a context manager."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self._lock = lock(home)
        self.keys = credentials.load(home, {})
        self.node: Node = find_node(home)
        self.postgrest = postgrest.find_binary(postgrest.cache_folder(home), os.environ, print)
        self.log = home / "postgres.log"
        self._postgres: LocalPostgres | None = None

    def __enter__(self) -> Servers:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._lock.close()

    @property
    def postgres(self) -> LocalPostgres:
        assert self._postgres is not None
        return self._postgres

    def start(self, *, for_loading: bool = False) -> None:
        """Start Postgres; `for_loading` as fast as it can be, for data that can be made again."""
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        buffers = {"shared_buffers": f"{min(2048, max(256, int(gigabytes * 128)))}MB"}
        settings = {**_SETTINGS, **buffers, **(UNSAFE if for_loading else {})}
        self._postgres = LocalPostgres(self.home, self.keys.database_password, environ=os.environ, settings=settings)
        self._postgres.start()

    def stop(self) -> None:
        if self._postgres is not None:
            self._postgres.stop()
            self._postgres = None

    def connect(self, database: str = "postgres") -> Connection:
        return psycopg.connect(self.postgres.url(database), autocommit=True, application_name=RUNNER)

    @contextmanager
    def project(self, database: str) -> Iterator[Project]:
        """Start PostgREST for a database."""
        rest_port, port = ports.find_free(), ports.find_free()
        rest = postgrest.start(
            self.postgrest,
            environ=os.environ,
            database_url=self.postgres.url(database, user="authenticator"),
            jwt_secret=self.keys.jwt_secret,
            port=rest_port,
            log=self.home / "postgrest.log",
        )
        try:
            command = [sys.executable, "-m", "tests.bench.prefix_proxy", str(port), str(rest_port)]
            front = Child("front", command, environ=for_children(os.environ), cwd=ROOT, log=self.home / "front.log")
            try:
                front.wait_ready(lambda: ports.answers(port))
                yield Project(database, self.postgres.url(database), f"http://{ports.HOST}:{port}", self.keys)
            finally:
                front.stop()
        finally:
            rest.stop()

    @contextmanager
    def api(self, project: Project, **variables: str) -> Iterator[Api]:
        """Start the API for a project, with more variables if wanted, and wait until it answers."""
        port = ports.find_free()
        log = self.home / "api.log"
        environment = api_environment(project, variables)
        with project.connect() as connection:
            policies = [policy.arguments() for policy in load_policies(Settings.from_environ(environment))]
            connection.execute("select lull.apply_policies(%s)", (Jsonb(policies),))  # as its migration does
        child = Child("the API", uvicorn(port), environ=environment, cwd=ROOT, log=log)
        try:
            child.wait_ready(lambda: ports.answers(port))
            yield Api(f"http://{ports.HOST}:{port}", child.pid, self.keys)
        finally:
            child.stop()

    def versions(self) -> dict[str, str]:
        """What was measured, by name and version."""
        said = subprocess.run([self.postgrest, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"[\d.]+", said)
        return {
            "Postgres": self.postgres.version,
            "PostgREST": found[0] if found else said,
            "Node.js": self.node.version(),
        }


def uvicorn(port: int) -> list[str]:
    """The command that serves the API."""
    served = ["api.index:app", "--host", ports.HOST, "--port", str(port), "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", *served]


def api_environment(project: Project, variables: Mapping[str, str], *, direct: bool = False) -> dict[str, str]:
    """The API's environment: the project's, and nothing that the developer's shell says to Lull."""
    mine = {name.upper() for name in Settings.model_fields}
    inherited = {name: value for name, value in for_children(os.environ).items() if name not in mine}
    keys = {"CRON_SECRET": project.keys.cron_secret, "SUPABASE_JWT_SECRET": project.keys.jwt_secret}
    settings = {**project.environment(), **keys}
    if not direct:
        del settings["DATABASE_URL"]
    return {**inherited, **settings, **variables}


def hours_since(moment: datetime) -> str:
    """The age, in hours, that a policy needs to take what is older than a moment."""
    return f"{(datetime.now(UTC) - moment).total_seconds() / 3600:.4f}"


def quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for a contender: no proxy for the loopback address, and bytecode is kept."""
    return {name: value for name, value in for_children(environ).items() if name != "PYTHONDONTWRITEBYTECODE"}
