"""Run a local Supabase (or use the one that SUPABASE_URL names) and the API, until Ctrl-C."""

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg

from infra.local import credentials, ports
from infra.local.environment import DEFAULT_PORT, home, write_dev_env
from infra.local.errors import StackError
from infra.local.processes import Child
from infra.local.signals import StopRequested, stopping_on_signals
from infra.local.stack import LocalSupabase, lock, start_api

DEFAULT_BUCKET = "session-files"
WATCH_SECONDS = 0.2


def run(environ: Mapping[str, str]) -> int:
    """Run until asked to stop (0) or until a part fails (1)."""
    try:
        with stopping_on_signals(), ExitStack() as running:
            _serve(environ, running)
    except StopRequested:
        say("stopped")
        return 0
    except StackError as error:
        print(f"\nlull: {error}", file=sys.stderr)
        return 1
    return 0


def say(line: str) -> None:
    """Print one line of progress."""
    print(line, flush=True)


def _serve(environ: Mapping[str, str], running: ExitStack) -> None:
    port = free_port(environ)
    folder = home(environ)
    say(f"data in {folder}")
    processes: list[Child] = []
    if environ.get("SUPABASE_URL"):
        settings = _hosted(environ, folder, running)
    else:
        stack = _local(environ, folder, running)
        settings, processes = stack.environment(), stack.processes
    started = time.monotonic()
    api = start_api(settings, port, environ=environ, log=None)
    running.callback(api.stop)
    say(f"api: ready in {time.monotonic() - started:.1f} s")
    dev_env = write_dev_env(folder, {"API_URL": f"http://{ports.HOST}:{port}", **settings})
    running.callback(dev_env.unlink, missing_ok=True)
    say(_welcome(dev_env, port, settings))
    _watch([*processes, api])


def free_port(environ: Mapping[str, str]) -> int:
    """Return the port of the API; raise StackError when it is none or taken."""
    given = environ.get("PORT") or str(DEFAULT_PORT)
    if not given.isdecimal() or not 0 < int(given) < 65536:
        raise StackError(f"PORT is {given!r}; it must be a number from 1 to 65535.")
    if not ports.is_free(int(given)):
        another = int(given) % 65535 + 1
        raise StackError(f"port {given} is taken. Stop what listens there, or choose another: PORT={another}")
    return int(given)


def _local(environ: Mapping[str, str], folder: Path, running: ExitStack) -> LocalSupabase:
    stack = running.enter_context(LocalSupabase(folder, environ=environ, report=say, prepare=_migrate))
    stack.ensure_bucket(environ.get("STORAGE_BUCKET") or DEFAULT_BUCKET)
    return stack


def _hosted(environ: Mapping[str, str], folder: Path, running: ExitStack) -> dict[str, str]:
    if not environ.get("SUPABASE_SECRET_KEY"):
        raise StackError(
            "SUPABASE_URL is set: SUPABASE_SECRET_KEY must be set too (or unset both for a local Supabase)."
        )
    folder.mkdir(parents=True, exist_ok=True)
    running.callback(lock(folder).close)
    secrets = credentials.load(folder, environ)
    say(f"using {environ['SUPABASE_URL']}; its database is left as it is (see `python -m infra migrate`)")
    given = ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_JWT_SECRET", "DATABASE_URL")
    settings = {name: environ[name] for name in given if environ.get(name)}
    return settings | {"CRON_SECRET": secrets.cron_secret, "SERVICE_SECRET": secrets.service_secret}


def _migrate(database_url: str) -> None:
    from api.cleanup.policies import PolicyError, load_policies
    from api.settings import SettingsError, load_settings
    from infra import migrate

    started = time.monotonic()
    try:
        policies = [policy.arguments() for policy in load_policies(load_settings())]
        migrate.apply(database_url, policies)
    except (SettingsError, PolicyError) as error:
        raise StackError(str(error)) from None
    except psycopg.Error as error:
        raise StackError(f"the migration failed, nothing was changed: {error}") from error
    say(f"migrations: applied in {time.monotonic() - started:.1f} s")


def _welcome(dev_env: Path, port: int, settings: Mapping[str, str]) -> str:
    shown = dev_env.relative_to(Path.cwd()) if dev_env.is_relative_to(Path.cwd()) else dev_env
    secret = f'-H "Authorization: Bearer $(grep ^CRON_SECRET= {shown} | cut -d= -f2-)"'
    endpoint = f"http://{ports.HOST}:{port}/api/admin/cleanup-sessions"
    database = (
        f'  psql "$(grep ^DATABASE_URL= {shown} | cut -d= -f2-)"\n' if "DATABASE_URL" in settings else ""
    )
    return (
        f"\nLull is ready at http://{ports.HOST}:{port}, its Supabase at {settings['SUPABASE_URL']}.\n"
        f"Settings and secrets are in {shown} while it runs. Ctrl-C stops it. In another terminal:\n\n"
        f"  curl {secret} {endpoint}\n"
        f"  curl -X POST {secret} {endpoint}\n"
        f"{database}"
    )


def _watch(processes: list[Child]) -> None:
    while True:
        for process in processes:
            if not process.alive:
                raise StackError(f"{process.obituary()}\nThe rest was stopped.")
        time.sleep(WATCH_SECONDS)
