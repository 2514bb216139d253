"""Run a local Supabase (or use the one that SUPABASE_URL names) and the API, until Ctrl-C."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psycopg

from api.settings import Settings, SettingsError
from infra.local import credentials, ports
from infra.local.demo import DATABASE_VARIABLE
from infra.local.environment import DEFAULT_PORT, home, make_private, write_dev_env
from infra.local.errors import StackError
from infra.local.processes import Child
from infra.local.signals import StopRequested, stopping_on_signals
from infra.local.stack import LocalSupabase, lock, start_api

WATCH_SECONDS = 0.2
# Off unless the environment sets them: all requests come from this machine, and a page that reloads opens drafts.
LIMITS = (
    "MAX_OPEN_DRAFTS_PER_OWNER",
    "DRAFTS_PER_HOUR",
    "MAX_OPEN_GAMES_PER_OWNER",
    "ACTIVE_PER_HOUR",
    "ANONYMOUS_JOINS_PER_HOUR",
)


def run(environ: Mapping[str, str], *, seed_views: bool | None = None) -> int:
    """Run until asked to stop (0) or until a part fails (1). What it writes is for its own user alone."""
    os.umask(0o077)
    try:
        with stopping_on_signals(), ExitStack() as running:
            _serve(environ, running, seed_views)
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


def _serve(environ: Mapping[str, str], running: ExitStack, seed_views: bool | None) -> None:
    port = free_port(environ)
    folder = home(environ)
    say(f"data in {folder}")
    processes: list[Child] = []
    if environ.get("SUPABASE_URL"):
        settings = _hosted(environ, folder, running)
    else:
        stack = _local(environ, folder, running, port + 1, seed_views)
        settings, processes = stack.environment(), stack.processes
    started = time.monotonic()
    own = {name: "0" for name in LIMITS if not environ.get(name)} | _user_sessions(environ)
    served = ("--factory", "infra.local.api:create_app")
    shown = {} if environ.get("SUPABASE_URL") else {DATABASE_VARIABLE: settings["DATABASE_URL"], **_links(environ)}
    api = start_api({**settings, **own, **shown}, port, environ=environ, log=None, served=served)
    running.callback(api.stop)
    say(f"api: ready in {time.monotonic() - started:.1f} s")
    dev_env = write_dev_env(folder, {"API_URL": f"http://{ports.HOST}:{port}", **settings})
    running.callback(dev_env.unlink, missing_ok=True)
    say(_welcome(dev_env, port, settings))
    if shown:
        say(f"The demo chat: http://{ports.HOST}:{port}/demo\n")
    _watch([*processes, api])


def _user_sessions(environ: Mapping[str, str]) -> dict[str, str]:
    """Where user sessions live, unless USER_SESSION_STORE says so: in the Redis of REDIS_URL, else in memory."""
    if environ.get("USER_SESSION_STORE"):
        return {}
    return {"USER_SESSION_STORE": "redis" if environ.get("REDIS_URL") else "memory"}


def _links(environ: Mapping[str, str]) -> dict[str, str]:
    """The expired page of the demo leads back to the demo."""
    return {} if environ.get("EXPIRED_PAGE_LINKS") else {"EXPIRED_PAGE_LINKS": "Back to the demo=/demo"}


def free_port(environ: Mapping[str, str]) -> int:
    """Return the port of the API; raise StackError when it is none or taken."""
    given = environ.get("PORT") or str(DEFAULT_PORT)
    if not given.isdecimal() or not 0 < int(given) < 65536:
        raise StackError(f"PORT is {given!r}; it must be a number from 1 to 65535.")
    if not ports.is_free(int(given)):
        another = (int(given) + 9) % 65535 + 1  # the ports after it are those of the Supabase that runs with it
        raise StackError(f"port {given} is taken. Stop what listens there, or choose another: PORT={another}")
    return int(given)


def _local(
    environ: Mapping[str, str], folder: Path, running: ExitStack, first_port: int, seed_views: bool | None
) -> LocalSupabase:
    settings = _settings(environ)
    prepare = partial(_migrate, settings, seed_views)
    stack = LocalSupabase(folder, environ=environ, report=say, prepare=prepare, first_port=first_port)
    running.enter_context(stack)
    stack.ensure_bucket(
        settings.storage_bucket, largest_file=settings.max_file_bytes, types=settings.allowed_file_types
    )
    return stack


def _settings(environ: Mapping[str, str]) -> Settings:
    try:
        return Settings.from_environ(environ)
    except SettingsError as error:
        raise StackError(str(error)) from None


def _hosted(environ: Mapping[str, str], folder: Path, running: ExitStack) -> dict[str, str]:
    if not environ.get("SUPABASE_SECRET_KEY"):
        raise StackError(
            "SUPABASE_URL is set: SUPABASE_SECRET_KEY must be set too (or unset both for a local Supabase)."
        )
    make_private(folder)
    running.callback(lock(folder).close)
    secrets = credentials.load(folder, environ)
    say(f"using {environ['SUPABASE_URL']}; its database is left as it is (see `python -m infra migrate`)")
    given = ("SUPABASE_URL", "SUPABASE_ANON_KEY", "SUPABASE_SECRET_KEY", "SUPABASE_JWT_SECRET", "DATABASE_URL")
    settings = {name: environ[name] for name in given if environ.get(name)}
    return settings | {"CRON_SECRET": secrets.cron_secret, "SERVICE_SECRET": secrets.service_secret}


def _migrate(settings: Settings, seed_views: bool | None, database_url: str) -> None:
    from api.cleanup.policies import PolicyError, load_policies
    from infra import migrate

    started = time.monotonic()
    try:
        policies = [policy.arguments() for policy in load_policies(settings)]
        migrate.apply(database_url, policies, seed_views=seed_views)
    except PolicyError as error:
        raise StackError(str(error)) from None
    except psycopg.Error as error:
        raise StackError(f"the migration failed, nothing was changed: {error}") from error
    say(f"migrations: applied in {time.monotonic() - started:.1f} s")


def _welcome(dev_env: Path, port: int, settings: Mapping[str, str]) -> str:
    shown = dev_env.relative_to(Path.cwd()) if dev_env.is_relative_to(Path.cwd()) else dev_env
    secret = f'-H "Authorization: Bearer $(grep ^CRON_SECRET= {shown} | cut -d= -f2-)"'
    endpoint = f"http://{ports.HOST}:{port}/api/admin/cleanup-sessions"
    database = f'  psql "$(grep ^DATABASE_URL= {shown} | cut -d= -f2-)"\n' if "DATABASE_URL" in settings else ""
    front_end = ""
    if key := settings.get("SUPABASE_ANON_KEY"):
        front_end = f"\nIn a front end: NEXT_PUBLIC_SUPABASE_URL={settings['SUPABASE_URL']}\n"
        front_end += f"NEXT_PUBLIC_SUPABASE_ANON_KEY={key}\n"
    return (
        f"\nLull is ready at http://{ports.HOST}:{port}, its Supabase at {settings['SUPABASE_URL']}.\n"
        f"Settings and secrets are in {shown} while it runs. Ctrl-C stops it. In another terminal:\n\n"
        f"  curl {secret} {endpoint}\n"
        f"  curl -X POST {secret} {endpoint}\n"
        f"{database}"
        f"{front_end}"
    )


def _watch(processes: list[Child]) -> None:
    while True:
        for process in processes:
            if not process.alive:
                raise StackError(f"{process.obituary()}\nThe rest was stopped.")
        time.sleep(WATCH_SECONDS)
