"""What becomes of a draft's files: kept on activation, gone after the restore window, back with a late return.

And the race that must never be lost: a purge against a restore, with each side held at the critical point.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import psycopg
import pytest

from api.cleanup.policies import load_policies
from api.cleanup.run import Cleanup, run_cleanup
from api.database import Database
from api.storage import FileStorage
from tests.callers import problem_of, start
from tests.calls import ADMIN, CLEANUP, settings
from tests.sessions.file_calls import PNG, attach, download, put, register

Sql = psycopg.Connection[Any]
Environment = dict[str, str]
Headers = dict[str, str]

LATER = "now() - interval '1 second'"


def clean(api: httpx.Client) -> dict[str, Any]:
    answer = api.post(CLEANUP, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


def abandon(api: httpx.Client, sql: Sql) -> None:
    """Let a day go by for every draft, and clean."""
    sql.execute("update lull.session_files set upload_expires_at = now() - interval '22 hours'")
    sql.execute("update lull.file_removals set not_before = now() - interval '21 hours' where file_id is not null")
    sql.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
    clean(api)


def count(sql: Sql, table: str) -> int:
    row = sql.execute(f"select count(*) as n from lull.{table}").fetchone()
    assert row is not None
    return int(row["n"])


@pytest.fixture
def draft(early: httpx.Client) -> tuple[str, Headers, str]:
    """A draft with one uploaded file: its address, its owner, and the file's address."""
    session, owner = start(early)
    return session, owner, attach(early, session, owner)


Draft = tuple[str, Headers, str]


@pytest.fixture
def has_bytes(sql: Sql, storage: httpx.Client, draft: Draft) -> Iterator[Any]:
    """Whether Storage still has the draft's file."""
    row = sql.execute("select bucket, path from lull.session_files").fetchone()
    assert row is not None
    yield lambda: storage.get(f"/object/{row['bucket']}/{row['path']}").content == PNG


def test_a_file_attached_before_the_first_message_outlives_the_cleanup(
    early: httpx.Client, sql: Sql, draft: Draft
) -> None:
    session, owner, file = draft
    early.post(f"{session}/activate", headers=owner)
    abandon(early, sql)
    assert early.get(session, headers=owner).json()["session"]["status"] == "active"
    assert download(early, file, owner) == PNG


def test_an_abandoned_drafts_bytes_go_after_the_restore_window(
    early: httpx.Client, sql: Sql, draft: Draft, has_bytes: Any
) -> None:
    session, owner, file = draft
    abandon(early, sql)
    assert (count(sql, "sessions"), count(sql, "session_files"), count(sql, "file_removals")) == (0, 0, 0)
    assert problem_of(early.get(file, headers=owner)) == (410, "session-archived")
    assert has_bytes()
    sql.execute(f"update lull.archive_pages set purge_after = {LATER}")
    assert clean(early)["files"]["removed"] == 1
    assert not has_bytes()
    assert problem_of(early.get(file, headers=owner)) == (410, "session-gone")
    assert problem_of(early.post(f"{session}/activate", headers=owner)) == (410, "session-gone")


def test_a_late_return_finds_every_file_again(
    early: httpx.Client, sql: Sql, draft: Draft, has_bytes: Any
) -> None:
    session, owner, file = draft
    listed = early.get(f"{session}/files", headers=owner).json()
    abandon(early, sql)
    assert early.post(f"{session}/activate", headers=owner).headers["session-restored"] == "true"
    assert early.get(f"{session}/files", headers=owner).json() == listed
    assert download(early, file, owner) == PNG
    clean(early)
    assert has_bytes()


def test_an_upload_counts_as_activity(early: httpx.Client, sql: Sql) -> None:
    session, owner = start(early)
    registered = register(early, session, owner)
    put(registered)
    sql.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
    early.post(f"{session}/files/{registered['file']['id']}/complete", headers=owner)
    clean(early)
    assert early.get(session, headers=owner).status_code == 200


def test_an_upload_that_was_not_completed_is_removed_with_its_bytes(
    early: httpx.Client, sql: Sql, storage: httpx.Client
) -> None:
    session, owner = start(early)
    registered = register(early, session, owner)
    put(registered)
    sql.execute("update lull.session_files set upload_expires_at = now() - interval '61 minutes' returning path")
    sql.execute("update lull.file_removals set not_before = now() - interval '1 minute'")
    report = clean(early)
    assert report["files"]["removed"] == 2
    row = sql.execute("select count(*) as n from lull.file_removals").fetchone()
    assert row == {"n": 0}
    file = f"{session}/files/{registered['file']['id']}"
    assert problem_of(early.post(f"{file}/complete", headers=owner)) == (404, "not-found")


class HeldStorage(FileStorage):
    """Stops before it removes anything, until it is let go."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(settings(environment))
        self.reached, self.go_on = Event(), Event()

    def remove(self, bucket: str, paths: Sequence[str], *, timeout_seconds: float = 10) -> set[str]:
        self.reached.set()
        assert self.go_on.wait(20)
        return super().remove(bucket, paths, timeout_seconds=timeout_seconds)


def test_a_return_between_the_claim_and_the_removal_gets_no_session_without_bytes(
    early: httpx.Client, environment: Environment, sql: Sql, draft: Draft, has_bytes: Any
) -> None:
    session, owner, _file = draft
    abandon(early, sql)
    sql.execute(f"update lull.archive_pages set purge_after = {LATER}")
    held = HeldStorage(environment)
    policies = load_policies(settings())
    cleanup = Cleanup(Database(settings(environment)), held, policies, time_budget_seconds=50, lease_seconds=60)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(run_cleanup, cleanup, caller="test")
        assert held.reached.wait(20)
        assert problem_of(early.post(f"{session}/activate", headers=owner)) == (410, "session-gone")
        assert has_bytes()
        held.go_on.set()
        run.result()
    assert not has_bytes()
    assert (count(sql, "sessions"), count(sql, "file_removals")) == (0, 0)


def test_a_run_beside_a_return_that_is_not_committed_yet_removes_nothing(
    early: httpx.Client, sql: Sql, connect: Any, draft: Draft, has_bytes: Any
) -> None:
    session, owner, file = draft
    abandon(early, sql)
    sql.execute(f"update lull.archive_pages set purge_after = {LATER}")
    user = connect(autocommit=False)
    user.execute("select lull_activate_session(%s, '{\"service\": true}')", [session.rpartition("/")[2]])
    assert clean(early)["files"]["removed"] == 0
    user.commit()
    assert clean(early)["files"]["removed"] == 0
    assert has_bytes()
    assert download(early, file, owner) == PNG


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_return_waits_for_a_purge_and_then_finds_all_or_nothing(
    early: httpx.Client, sql: Sql, connect: Any, draft: Draft, has_bytes: Any, end: str
) -> None:
    session, owner, file = draft
    abandon(early, sql)
    purger = connect(autocommit=False)
    purger.execute("select 1 from lull.archive_pages for update")
    purger.execute("select lull.purge_pages(array_agg(id)) from lull.archive_pages")
    purger.execute("delete from lull.archive_pages")
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(early.post, f"{session}/activate", headers=owner)
        waiting = "select 1 from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
        while sql.execute(waiting, [purger.info.backend_pid]).fetchone() is None:
            assert not late.done(), late.result().text
        assert clean(early)["files"]["removed"] == 0, "what is not committed is not due"
        getattr(purger, end)()
        answer = late.result()
    clean(early)
    if end == "commit":
        assert problem_of(answer) == (410, "session-gone")
        assert not has_bytes()
    else:
        assert answer.headers["session-restored"] == "true"
        assert has_bytes()
        assert download(early, file, owner) == PNG


def test_a_file_deleted_before_the_cleanup_does_not_come_back_with_the_session(
    early: httpx.Client, sql: Sql, draft: Draft, has_bytes: Any
) -> None:
    session, owner, file = draft
    kept = attach(early, session, owner, name="kept.png")
    sql.execute("update lull.session_files set upload_expires_at = now() - interval '1 hour'")
    early.delete(file, headers=owner)
    abandon(early, sql)
    assert not has_bytes()
    assert early.post(f"{session}/activate", headers=owner).headers["session-restored"] == "true"
    files = early.get(f"{session}/files", headers=owner).json()["files"]
    assert [each["name"] for each in files] == ["kept.png"]
    assert download(early, kept, owner) == PNG
