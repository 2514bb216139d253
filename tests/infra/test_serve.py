"""`python -m infra serve`: the API and its scheduler in one process, from outside."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import psycopg
import pytest

from infra import serve
from infra.local import ports
from infra.local.environment import ROOT
from tests.calls import add_drafts, add_session, count_sessions, settings
from tests.sql.driver import scalar

Sql = psycopg.Connection[Any]


class Served:
    """One `infra serve`."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.port = ports.find_free()
        self.log = log
        inherited = {name: value for name, value in os.environ.items() if name != "HOST"}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "infra", "serve"],
                cwd=ROOT,
                env={**inherited, "PORT": str(self.port), **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def wait_for(self, event: str) -> dict[str, Any]:
        """Wait for a line of the log, and return it."""
        return next(line for line in self.lines(until=event) if line["event"] == event)

    def lines(self, until: str = "") -> list[dict[str, Any]]:
        """What was logged; it has to be there soon when `until` asks for it."""
        deadline = time.monotonic() + 30
        while f'"event": "{until}' not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    def stop(self, asked: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(asked)
        return self.process.wait(30)


@pytest.fixture
def served(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts one; what runs in the end is killed."""
    started: list[Served] = []

    def start(**changes: str) -> Served:
        through_postgrest = {**environment, "DATABASE_URL": ""}
        started.append(Served({**through_postgrest, **changes}, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def runs(sql: Sql) -> list[tuple[str, str]]:
    """Caller and status of every run."""
    rows = sql.execute("select caller, status from lull.cleanup_runs order by started_at").fetchall()
    return [(row["caller"], row["status"]) for row in rows]


def test_it_serves_and_cleans_and_stops_in_order(served: Callable[..., Served], sql: Sql) -> None:
    add_session(sql)
    one = served()
    assert one.wait_for("cleanup run")["caller"] == "serve"
    assert (count_sessions(sql), runs(sql)) == (0, [("serve", "completed")])
    assert one.wait_for("sweep.finished")["caller"] == "serve"
    assert httpx.get(f"http://127.0.0.1:{one.port}/api/health").json()["status"] == "ok"
    assert one.stop() == 0
    assert one.lines()[-1]["event"] == "stopped"


def test_a_run_in_progress_ends_after_its_batch_when_asked_to_stop(
    served: Callable[..., Served], sql: Sql
) -> None:
    add_drafts(sql, 60)
    with slow_deletes(sql):
        one = served()
        deadline = time.monotonic() + 30
        while count_sessions(sql) > 58:
            assert time.monotonic() < deadline, one.log.read_text()
            time.sleep(0.02)
        assert one.stop(signal.SIGINT) == 0
    assert runs(sql) == [("serve", "partial")]
    assert count_sessions(sql) > 40
    assert one.lines()[-1]["event"] == "stopped"


@contextmanager
def slow_deletes(sql: Sql) -> Iterator[None]:
    """Let each deleted session take longer than a whole batch should, so that they go one by one."""
    sql.execute("""
        create function public.slowly() returns trigger language plpgsql as $$
        begin perform pg_sleep(0.3); return old; end $$;
        create trigger slowly before delete on lull.sessions for each row execute function public.slowly();
    """)
    try:
        yield
    finally:
        sql.execute("drop trigger slowly on lull.sessions; drop function public.slowly()")


def test_a_failed_run_is_an_error_in_the_log_and_the_server_stays(
    served: Callable[..., Served], sql: Sql
) -> None:
    sql.execute("alter table lull.sessions rename column first_message_at to moved")
    try:
        one = served()
        line = one.wait_for("cleanup failed")
    finally:
        sql.execute("alter table lull.sessions rename column moved to first_message_at")
    assert (line["level"], line["type"], line["run"]) == (
        "error",
        "cleanup-failed",
        str(scalar(sql, "select id from lull.cleanup_runs")),
    )
    assert "abandoned-drafts: unknown column first_message_at" in line["detail"]
    assert httpx.get(f"http://127.0.0.1:{one.port}/api/health").is_success
    assert one.stop() == 0


def test_after_a_fault_it_looks_again_and_a_restart_does_not_clean_again(
    environment: dict[str, str], sql: Sql, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from api.composition import create_cleanup

    monkeypatch.setattr(serve, "LOOK_AGAIN_SECONDS", 0)
    monkeypatch.setattr(logging.getLogger("lull"), "propagate", True)
    caplog.set_level(logging.INFO, "lull")
    cleanup, stopping = create_cleanup(settings(environment)), Event()
    add_session(sql)
    sql.execute("revoke execute on function public.lull_cleanup_due from service_role")
    first = serve.Scheduler(cleanup, 15, stopping)
    try:
        first.start()
        wait_until(lambda: "cleanup failed" in caplog.messages)
    finally:
        sql.execute("grant execute on function public.lull_cleanup_due to service_role")
    # it looks again after the run, and the next one is far off
    wait_until(lambda: "next cleanup" in caplog.messages)
    assert (count_sessions(sql), runs(sql)) == (0, [("serve", "completed")])
    caplog.clear()
    again = serve.Scheduler(cleanup, 15, stopping)
    again.start()
    wait_until(lambda: "next cleanup" in caplog.messages)
    assert len(runs(sql)) == 1
    stopping.set()
    first.join(10)
    again.join(10)
    assert not first.is_alive() and not again.is_alive(), "a wait ends at once"


def wait_until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_missing_is_named_before_anything_starts(served: Callable[..., Served]) -> None:
    given = {"SUPABASE_URL": "", "SUPABASE_SECRET_KEY": "", "CRON_SECRET": "too short", "PORT": "http"}
    one = served(**given)
    assert one.process.wait(30) == 2
    assert one.log.read_text() == (
        "lull: SUPABASE_URL is not set; SUPABASE_SECRET_KEY is not set; "
        "CRON_SECRET is not set, or shorter than 16 characters; "
        "PORT is 'http'; it must be a number from 1 to 65535\n"
    )


def test_a_taken_port_ends_it_with_a_sentence(served: Callable[..., Served]) -> None:
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        taken.listen()
        one = served(PORT=str(taken.getsockname()[1]))
        assert one.process.wait(30) == 3
    assert "address already in use" in one.log.read_text()
    assert "Traceback" not in one.log.read_text()
