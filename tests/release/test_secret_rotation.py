"""The cron secret is rotated on a running deployment, and no run fails.

The steps, on any platform that starts new instances before it ends the old ones:

1. Make a new secret (`openssl rand -base64 32`), and deploy with CRON_SECRET=<new> and CRON_SECRET_PREVIOUS=<old>.
   From now on both are accepted.
2. When the old instances are gone, give the scheduler the new one. (Vercel's does it with step 1: it sends CRON_SECRET.)
3. Remove CRON_SECRET_PREVIOUS, and deploy again. From now on the old one is refused.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from infra.local import ports
from infra.local.processes import Child
from infra.local.stack import LocalSupabase, start_api
from tests import policies
from tests.calls import CLEANUP, add_session, count_sessions

OLD, NEW = "the old secret, in use so far", "the new secret, just generated"
Sql = psycopg.Connection[Any]


@dataclass
class Instance:
    """One process of the API, and whether a request is on its way to it."""

    name: str
    address: str
    process: Child
    in_use: threading.Lock = field(default_factory=threading.Lock)


class Deployment:
    """What a platform does: instances behind one name, replaced one by one, drained before they are ended."""

    def __init__(self, stack: LocalSupabase, folder: Path) -> None:
        self._environment = stack.environment()
        self._folder = folder
        self.instances: list[Instance] = []

    def start(self, name: str, **secrets: str) -> None:
        """Start one more instance; it gets requests as soon as it listens."""
        port = ports.find_free()
        environment = self._environment | policies.ENVIRONMENT | secrets
        process = start_api(environment, port, environ=os.environ, log=self._folder / f"{name}.log")
        self.instances.append(Instance(name, f"http://127.0.0.1:{port}", process))

    def end_oldest(self) -> None:
        """Send the oldest instance nothing more, let it answer what it has, and end it."""
        oldest = self.instances.pop(0)
        with oldest.in_use:
            oldest.process.stop()


class Scheduler(threading.Thread):
    """Fires at every instance in turn, many times a second, and keeps what it was answered."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(daemon=True)
        self.secret = OLD
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.stopping = False
        self._deployment = deployment

    def run(self) -> None:
        while not self.stopping:
            time.sleep(0.05)
            for instance in list(self._deployment.instances):
                with instance.in_use:
                    if instance.process.alive:
                        self._fire(instance)

    def _fire(self, instance: Instance) -> None:
        secret = self.secret
        headers = {"Authorization": f"Bearer {secret}"}
        try:
            status = httpx.post(instance.address + CLEANUP, headers=headers, timeout=60).status_code
        except httpx.HTTPError:
            status = 0
        self.answers[instance.name, secret, status] += 1

    def wait_for(self, name: str) -> None:
        """Until an instance has answered the secret of now some more times."""
        secret, seen, deadline = self.secret, 0, time.monotonic() + 60
        before = self._count(name, secret)
        while seen < 3:
            assert time.monotonic() < deadline, self.answers
            time.sleep(0.02)
            seen = self._count(name, secret) - before

    def _count(self, name: str, secret: str) -> int:
        return sum(n for (who, what, _), n in list(self.answers.items()) if (who, what) == (name, secret))


@pytest.fixture
def deployment(stack: LocalSupabase, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(stack, tmp_path)
    yield made
    for instance in made.instances:
        instance.process.stop()


@contextmanager
def firing(deployment: Deployment) -> Iterator[Scheduler]:
    scheduler = Scheduler(deployment)
    scheduler.start()
    try:
        yield scheduler
    finally:
        scheduler.stopping = True
        scheduler.join(60)


def test_no_call_is_refused_while_the_secret_is_rotated(deployment: Deployment, sql: Sql) -> None:
    deployment.start("before", CRON_SECRET=OLD)
    with firing(deployment) as scheduler:
        scheduler.wait_for("before")
        add_session(sql)

        deployment.start("rotating", CRON_SECRET=NEW, CRON_SECRET_PREVIOUS=OLD)
        scheduler.wait_for("rotating")
        scheduler.wait_for("before")
        deployment.end_oldest()

        scheduler.secret = NEW
        scheduler.wait_for("rotating")
        add_session(sql)

        deployment.start("after", CRON_SECRET=NEW)
        scheduler.wait_for("after")
        scheduler.wait_for("rotating")
        deployment.end_oldest()
        scheduler.wait_for("after")

    assert {status for _, _, status in scheduler.answers} == {200}, scheduler.answers
    assert {(name, secret) for name, secret, _ in scheduler.answers} == {
        ("before", OLD),
        ("rotating", OLD),
        ("rotating", NEW),
        ("after", NEW),
    }
    statuses = sql.execute("select distinct status from lull.cleanup_runs").fetchall()
    assert statuses == [{"status": "completed"}]
    assert count_sessions(sql) == 0
    refused = httpx.post(
        deployment.instances[0].address + CLEANUP, headers={"Authorization": f"Bearer {OLD}"}
    )
    assert refused.status_code == 401
