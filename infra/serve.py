"""Serve the API on any host, with a scheduler of the cleanup: no function platform and no cron needed.

HOST (127.0.0.1) and PORT (3000) are the address. FORWARDED_ALLOW_IPS names the proxies whose X-Forwarded-For is
trusted (unset: none). A cleanup runs every CLEANUP_INTERVAL_MINUTES (15), and at start when the last run began
longer ago than that; a sweep each minute.
"""

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from socket import socket
from threading import Event, Thread
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.auth.secrets import SHORTEST_SECRET
from api.cleanup.policies import PolicyError, subject_of
from api.cleanup.report import run_report
from api.cleanup.run import Cleanup, run_cleanup
from api.composition import create_app, create_cleanup
from api.errors import Problem
from api.settings import Settings, SettingsError
from infra.local.environment import DEFAULT_PORT
from infra.local.ports import HOST
from infra.local.signals import StopRequested, stopping_on_signals
from infra.sweeper import Sweeper

log = logging.getLogger("lull.serve")

LOOK_AGAIN_SECONDS = 60  # after a run, while the cleanup is paused, and after a failure
SHUTDOWN_SECONDS = 30  # for requests in progress, the current batch of a run, and its report


def run(environ: Mapping[str, str]) -> int:
    """Serve until asked to stop (returns 0). Prints missing or invalid settings instead (returns 2)."""
    try:
        with stopping_on_signals():
            _serve(environ)
    except StopRequested:
        log.info("stopped")
    except (SettingsError, PolicyError) as error:
        print(f"lull: {error}", file=sys.stderr)
        return 2
    return 0


def _serve(environ: Mapping[str, str]) -> None:
    settings = Settings.from_environ(environ)
    problems = [*_missing(settings), *_unusable(environ)]
    if problems:
        raise SettingsError("; ".join(problems))
    stopping = Event()
    cleanup = create_cleanup(settings, stopping.is_set)
    schedulers = [
        Scheduler(cleanup, settings.interval_minutes(), stopping),
        Sweeper(cleanup.database, settings, stopping),
    ]
    app = create_app(settings, stopping.is_set)
    app.open_features()  # a long-lived host imports all features at start
    server = _Server(_config(app, environ), schedulers, stopping)
    try:
        server.run()
    finally:
        stopping.set()
        for scheduler in schedulers:
            if scheduler.is_alive():
                scheduler.join(SHUTDOWN_SECONDS)


class Scheduler(Thread):
    """Runs the cleanup when one is due, until the process stops.

    The database decides when a run is due: so several instances, or one that restarts often, keep one interval.
    """

    def __init__(self, cleanup: Cleanup, interval_minutes: int, stopping: Event) -> None:
        super().__init__(name="scheduler", daemon=True)
        self._cleanup = cleanup
        self._interval_minutes = interval_minutes
        self._stopping = stopping

    def run(self) -> None:
        """Check, run, wait; repeat. Errors are logged, and do not end the thread."""
        while not self._stopping.is_set():
            looked, wait = time.monotonic(), 0.0
            try:
                wait = self._due_in_seconds()
                if wait > 0:
                    log.info("next cleanup", extra={"fields": {"in_seconds": round(wait)}})
                else:
                    self._clean_up()
            except Problem as problem:
                fields = {"type": problem.slug, "detail": problem.detail, "run": problem.members.get("runId")}
                log.error("cleanup failed", extra={"fields": fields})
            except Exception:
                log.exception("cleanup failed")
            self._stopping.wait(max(1, wait or looked + LOOK_AGAIN_SECONDS - time.monotonic()))

    def _due_in_seconds(self) -> float:
        arguments = {"p_interval_minutes": self._interval_minutes}
        answer = self._cleanup.database.call("lull_cleanup_due", arguments, timeout_seconds=10)
        return float(answer["due_in_seconds"])

    def _clean_up(self) -> None:
        """Run the cleanup. Raises Problem when it failed or was stopped."""
        outcome = run_cleanup(self._cleanup, caller="serve")
        run_report(outcome, self._cleanup.policies, subject_of(self._cleanup.policies))


class _Server(uvicorn.Server):
    """Starts the schedulers once the server listens, and sets `stopping` at the first signal."""

    def __init__(self, config: uvicorn.Config, schedulers: Sequence[Thread], stopping: Event) -> None:
        super().__init__(config)
        self._schedulers = schedulers
        self._stopping = stopping

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        for scheduler in self._schedulers:
            scheduler.start()
        log.info("serving", extra={"fields": {"host": self.config.host, "port": self.config.port}})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping.set()
        super().handle_exit(sig, frame)


def _config(app: FastAPI, environ: Mapping[str, str]) -> uvicorn.Config:
    proxies = environ.get("FORWARDED_ALLOW_IPS")
    return uvicorn.Config(
        app,
        host=environ.get("HOST") or HOST,
        port=int(environ.get("PORT") or DEFAULT_PORT),
        log_config=None,
        log_level="warning",
        access_log=False,  # the API writes its own log lines
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _missing(settings: Settings) -> list[str]:
    """The problems of required settings that are missing."""
    problems = []
    if settings.database_url is None:
        if settings.supabase_url is None:
            problems.append("SUPABASE_URL is not set")
        if settings.supabase_secret_key is None:
            problems.append("SUPABASE_SECRET_KEY is not set")
    secret = settings.cron_secret.get_secret_value().strip() if settings.cron_secret else ""
    if len(secret) < SHORTEST_SECRET:
        problems.append(f"CRON_SECRET is not set, or shorter than {SHORTEST_SECRET} characters")
    return problems


def _unusable(environ: Mapping[str, str]) -> list[str]:
    port = environ.get("PORT") or str(DEFAULT_PORT)
    if port.isdecimal() and 0 < int(port) < 65536:
        return []
    return [f"PORT is {port!r}; it must be a number from 1 to 65535"]
