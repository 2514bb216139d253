"""User sessions on a Redis Cluster of six nodes, one of whose primaries is killed in the middle of traffic."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from redis.crc import key_slot

from api.database import Database
from api.settings import Settings
from api.user_sessions.provider import Conflict
from api.user_sessions.redis_store import RedisProvider
from api.user_sessions.stores import create_provider
from tests.release.conftest import Note
from tests.release.redis_cluster import PRIMARIES, SLOTS, Cluster, redis_cluster, wait_until
from tests.user_sessions.redis_server import PROGRAM

WRITERS_PER_PRIMARY = 4
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no redis-server (Debian: apt-get install redis-server)")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with redis_cluster(tmp_path) as cluster:
        yield cluster


def client_of(cluster: Cluster, node: int, **more: object) -> RedisProvider:
    """A store as the settings make it, that knows one node."""
    chosen = {"user_session_store": "redis", "redis_url": cluster.url(node), **more}
    settings = Settings.model_validate(chosen)
    return cast(RedisProvider, create_provider(settings, Database(settings)))


def primary_of(provider: RedisProvider, user: str) -> int:
    """Which of the first primaries has this user's slot."""
    return key_slot(provider._keys(user)[0].encode()) * PRIMARIES // SLOTS


@dataclass
class Write:
    """A write that was accepted: when, what, and whether a replica had it."""

    at: float
    n: int
    version: str
    confirmed: bool


@dataclass
class Writer:
    """Counts up one user's session by compare and set, until it is told to stop."""

    provider: RedisProvider
    user: str
    stopping: threading.Event
    writes: list[Write] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)
    error: Exception | None = None

    def confirmed(self) -> int:
        """The last confirmed count."""
        return max((write.n for write in self.writes if write.confirmed), default=0)

    def run(self) -> None:
        """Write; what was accepted and not confirmed may be gone after the failover, what was confirmed may not."""
        n, version = 0, None
        try:
            while not self.stopping.is_set():
                try:
                    written = self.provider.set_session(self.user, {"n": n + 1}, version)
                except Conflict:
                    found = self.provider.get_session(self.user)
                    n, version = (found.data["n"], found.version) if found else (0, None)
                    if n < self.confirmed():
                        self.missing.append((n, self.confirmed()))
                    continue
                n, version = n + 1, str(written)
                self.writes.append(Write(time.monotonic(), n, version, written.confirmed))
        except Exception as error:
            self.error = error


@pytest.mark.timeout(180)
def test_a_killed_primary_costs_no_confirmed_write_and_stops_no_writer(cluster: Cluster, note: Note) -> None:
    stopping = threading.Event()
    writers = [*writers_of(cluster, stopping)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: all(len(writer.writes) > 50 for writer in writers))
        killed, replica = cluster.nodes[0], cluster.nodes[PRIMARIES]
        kill_at = time.monotonic()
        killed.kill()
        promoted_at = wait_until(replica.is_primary)
        there = [writer for writer in writers if primary_of(writer.provider, writer.user) == 0]
        wait_until(lambda: all(after(writer, promoted_at + 1) for writer in writers))
        back_at = time.monotonic()
        killed.start()
        followed_at = wait_until(lambda: replica.replicas() == 1)
        wait_until(lambda: all(any(write.confirmed for write in after(writer, followed_at)) for writer in there))
    finally:
        stopping.set()
        for thread in threads:
            thread.join()

    assert [writer.error for writer in writers if writer.error] == []
    assert [writer.missing for writer in writers if writer.missing] == []
    first = min(write.at for writer in there for write in after(writer, promoted_at))
    last_first = max(after(writer, promoted_at)[0].at for writer in there)
    assert first - promoted_at < 1.5 and last_first - kill_at < 10
    alone = [write for writer in there for write in after(writer, promoted_at) if write.at < back_at]
    assert alone and not any(write.confirmed for write in alone)
    assert sum(writer.provider.unconfirmed for writer in there) >= len(alone)
    other = client_of(cluster, PRIMARIES + 1)
    for writer in writers:
        found = other.get_session(writer.user)
        assert found is not None
        assert (found.data["n"], found.version) == (writer.writes[-1].n, writer.writes[-1].version)
        assert found.data["n"] >= writer.confirmed() > 0
    note(
        f"Redis Cluster, primary killed: promoted after {promoted_at - kill_at:.2f} s, first write "
        f"{first - promoted_at:.2f} s later, every writer by {last_first - promoted_at:.2f} s; {len(alone)} writes "
        f"unconfirmed until it was back, {sum(len(writer.writes) for writer in writers)} in all"
    )


def writers_of(cluster: Cluster, stopping: threading.Event) -> Iterator[Writer]:
    """Four writers for each primary, each with a client of its own."""
    counts = dict.fromkeys(range(PRIMARIES), 0)
    number = 0
    while min(counts.values()) < WRITERS_PER_PRIMARY:
        number += 1
        provider = client_of(cluster, number % PRIMARIES, redis_wait_replicas=1)
        primary = primary_of(provider, f"user {number}")
        if counts[primary] < WRITERS_PER_PRIMARY:
            counts[primary] += 1
            yield Writer(provider, f"user {number}", stopping)


def after(writer: Writer, moment: float) -> list[Write]:
    """What a writer wrote after a moment."""
    return [write for write in writer.writes if write.at > moment]


def test_the_behaviour_of_a_store_is_the_same_on_a_cluster(cluster: Cluster) -> None:
    provider = client_of(cluster, 1)
    users = [f"user {number} {{x}}" for number in range(300)]
    for user in users:
        provider.set_session(user, {"user": user})
    stats = provider.get_stats(limit=1000)
    assert (stats.active_sessions, sorted(stats.user_ids)) == (300, sorted(users))
    with pytest.raises(Conflict):
        provider.set_session(users[0], {})
    assert provider.delete_session(users[0]) and not provider.has_session(users[0])
    assert provider.touch(users[1])
    pruned = provider.cleanup_old_sessions(0, 200)
    assert (pruned.count, pruned.more) == (200, True)
    assert provider.cleanup_old_sessions(0).count == 99
