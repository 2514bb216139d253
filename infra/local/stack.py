"""A whole local Supabase: Postgres, its roles, PostgREST and the gateway, started and stopped together."""

import fcntl
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import httpx

from infra.local import credentials, ports, postgrest
from infra.local.environment import ROOT, for_children, make_private
from infra.local.errors import StackError
from infra.local.postgres import LocalPostgres
from infra.local.processes import Child

Report = Callable[[str], None]


def silent(_: str) -> None:
    """Report nothing."""


class LocalSupabase:
    """A local Supabase whose data and secrets live in one folder.

    Use it as a context manager, from the main thread. `prepare` is called with the database's URL when
    Postgres answers and before PostgREST reads the schema: the place to migrate.
    """

    def __init__(
        self,
        home: Path,
        *,
        environ: Mapping[str, str],
        report: Report = silent,
        prepare: Callable[[str], object] | None = None,
        postgres_binaries: Path | None = None,
        postgres_settings: Mapping[str, str] | None = None,
        first_port: int | None = None,
    ) -> None:
        """Prepare a stack; from `first_port` on are the ports of gateway and Postgres, where they are free."""
        self.home = home
        self.supabase_url = ""
        self.processes: list[Child] = []
        self._environ = environ
        self._report = report
        self._prepare = prepare
        self._postgres_binaries = postgres_binaries
        self._postgres_settings = postgres_settings
        self._first_port = first_port
        self._lock: IO[str] | None = None

    def __enter__(self) -> "LocalSupabase":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def database_url(self) -> str:
        """Return the URL of the database, as its superuser."""
        return self.postgres.url()

    def start(self) -> None:
        """Start everything; raise StackError with a reason when that is not possible."""
        make_private(self.home)
        self._lock = lock(self.home)
        self.credentials = credentials.load(self.home, self._environ)
        binary = postgrest.find_binary(postgrest.cache_folder(self.home), self._environ, self._report)
        rest_port, gateway_port = ports.find_free(), self._port(0)
        # The gateway takes 1 s to import its libraries; Postgres starts meanwhile.
        gateway = self._start_gateway(gateway_port, rest_port)
        self._start_postgres()
        self.postgres.create_project()
        if self._prepare is not None:
            self._prepare(self.database_url)
        self._start_postgrest(binary, rest_port)
        self.supabase_url = f"http://{ports.HOST}:{gateway_port}"
        with httpx.Client(trust_env=False, timeout=5) as client:
            gateway.wait_ready(lambda: postgrest.answers(client, f"{self.supabase_url}/health"))
        self._report(f"gateway: ready at {self.supabase_url}")

    def _port(self, offset: int) -> int:
        return ports.find_free() if self._first_port is None else ports.preferred(self._first_port + offset)

    def stop(self) -> None:
        """Stop everything, last started first, and release the home."""
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def environment(self) -> dict[str, str]:
        """Return the settings by which Lull and its operators reach this Supabase."""
        return {
            "SUPABASE_URL": self.supabase_url,
            "SUPABASE_ANON_KEY": self.credentials.anon_key,
            "SUPABASE_SECRET_KEY": self.credentials.secret_key,
            "SUPABASE_JWT_SECRET": self.credentials.jwt_secret,
            "DATABASE_URL": self.database_url,
            "CRON_SECRET": self.credentials.cron_secret,
            "SERVICE_SECRET": self.credentials.service_secret,
        }

    def ensure_bucket(self, name: str, *, largest_file: int | None = None, types: Sequence[str] = ()) -> None:
        """Create a private Storage bucket unless there is one; give it these limits."""
        limits = {"file_size_limit": largest_file, "allowed_mime_types": None if "*/*" in types else list(types)}
        key = self.credentials.secret_key
        headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        with httpx.Client(
            base_url=f"{self.supabase_url}/storage/v1", headers=headers, trust_env=False
        ) as client:
            if client.get(f"/bucket/{name}").is_success:
                made = client.put(f"/bucket/{name}", json={"public": False, **limits})
            else:
                made = client.post("/bucket", json={"id": name, "name": name, "public": False, **limits})
        if not made.is_success:
            raise StackError(f"the Storage bucket {name} could not be created: {made.json()['message']}")

    def _start_postgres(self) -> None:
        self.postgres = LocalPostgres(
            self.home,
            self.credentials.database_password,
            environ=self._environ,
            binaries=self._postgres_binaries,
            settings=self._postgres_settings,
            port=self._port(1),
        )
        try:
            self.postgres.start()
        finally:
            if self.postgres.process is not None:
                self.processes.append(self.postgres.process)
        self._report(f"postgres {self.postgres.version}: ready in {self.postgres.seconds:.1f} s")

    def _start_postgrest(self, binary: Path, port: int) -> None:
        started = time.monotonic()
        child = postgrest.start(
            binary,
            environ=self._environ,
            database_url=self.postgres.url(user="authenticator"),
            jwt_secret=self.credentials.jwt_secret,
            port=port,
            log=self.home / "postgrest.log",
        )
        self.processes.append(child)
        self._report(f"postgrest: ready in {time.monotonic() - started:.1f} s")

    def _start_gateway(self, port: int, rest_port: int) -> Child:
        upstream = f"http://{ports.HOST}:{rest_port}"
        command = [
            sys.executable,
            "-m",
            "infra.local.gateway",
            str(port),
            upstream,
            str(self.home / "storage"),
        ]
        environ = for_children(self._environ) | {"SUPABASE_JWT_SECRET": self.credentials.jwt_secret}
        child = Child("gateway", command, environ=environ, cwd=ROOT, log=self.home / "gateway.log")
        self.processes.append(child)
        return child


def lock(home: Path) -> IO[str]:
    """Hold the home for this process; raise StackError when another process has it."""
    file = (home / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StackError(
            f"another Lull is running with its data in {home}.\n"
            "Stop it, or give this one a folder and a port of its own: LULL_HOME=... PORT=..."
        ) from None
    return file


def start_api(
    environment: Mapping[str, str],
    port: int,
    *,
    environ: Mapping[str, str],
    log: Path | None,
    tree: Path = ROOT,
    python: str = sys.executable,
    served: Sequence[str] = ("api.index:app",),
) -> Child:
    """Start the API under uvicorn and wait until it listens; without a `log` it writes to the terminal.

    It is the API of the checkout at `tree`, run by the interpreter `python`. `environment` holds the
    settings of the Supabase; what else `environ` has is passed on.
    """
    settings = for_children(environ) | {
        name: value for name, value in environment.items() if name != "DATABASE_URL"
    }
    server = [python, "-m", "uvicorn", *served, "--host", ports.HOST, "--port", str(port)]
    quiet = ["--log-level", "warning", "--timeout-graceful-shutdown", "5"]
    child = Child(
        "the API", [*server, *quiet], environ=settings, cwd=tree, log=log, stop_signal=signal.SIGTERM
    )
    try:
        child.wait_ready(lambda: ports.answers(port))
    except BaseException:
        child.stop()
        raise
    return child
