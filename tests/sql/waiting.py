"""Hold one connection at a critical point while another one acts: threads, and Postgres's own word for who waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.sql.driver import Connection, scalar


@contextmanager
def beside() -> Iterator[Callable[..., Future[Any]]]:
    """Give a function that starts a call in another thread and returns its future."""
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit


def wait_until_blocked(observer: Connection, waiting: Connection, holder: Connection) -> None:
    """Return once Postgres says that `waiting` waits for a lock that `holder` has."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        blockers = scalar(observer, "select pg_blocking_pids(%s)", waiting.info.backend_pid)
        if holder.info.backend_pid in blockers:
            return
        time.sleep(0.005)
    raise AssertionError("the connection did not come to wait for the other one")


def wait_until_at(observer: Connection, working: Connection, event: str) -> None:
    """Return once Postgres says that `working` is at a wait event, such as PgSleep or advisory."""
    deadline = time.monotonic() + 20
    query = "select coalesce(wait_event, '') from pg_stat_activity where pid = %s"
    while time.monotonic() < deadline:
        if scalar(observer, query, working.info.backend_pid) == event:
            return
        time.sleep(0.005)
    raise AssertionError(f"the connection did not come to {event}")


def never_give_up(connection: Connection) -> None:
    """Let a batch wait for locks as long as a test holds it (its own limit is a tenth of a second)."""
    connection.execute("alter function public.lull_cleanup_lane set lock_timeout = '60s'")
