"""A run whose database, Storage, lease or time goes away under it: what is left is whole."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import psycopg
import pytest

from api.cleanup.answers import FinishedRun
from api.cleanup.preview import preview_cleanup
from api.cleanup.report import run_report
from api.cleanup.run import Cleanup
from api.composition import create_cleanup
from api.errors import DatabaseUnavailable, Problem
from api.storage import FileStorage
from tests.broken_server import broken_server, refusing_url
from tests.calls import add_drafts, count_sessions, settings
from tests.cleanup.runs import run_cleanup
from tests.flaky_proxy import FlakyProxy, flaky_proxy

Sql = psycopg.Connection[Any]
Answer = dict[str, Any]
BUCKET = "session-files"


@pytest.fixture
def cleanup(environment: dict[str, str]) -> Cleanup:
    return create_cleanup(settings(environment))


@pytest.fixture
def proxy(environment: dict[str, str]) -> Iterator[FlakyProxy]:
    with flaky_proxy(environment["SUPABASE_URL"]) as proxy:
        yield proxy


@pytest.fixture
def through(environment: dict[str, str], proxy: FlakyProxy) -> Cleanup:
    """A cleanup that reaches its database through the proxy."""
    return create_cleanup(settings(environment, supabase_url=proxy.url))


def line_of(answer: Answer, name: str = "abandoned-drafts") -> Answer:
    return next(line for line in answer["policies"] if line["policy"] == name)


def ticking(seconds: float, before: Callable[[int], None] = lambda _: None) -> Callable[[], float]:
    """A clock that moves on by `seconds` whenever it is read, after doing something at the nth reading."""
    readings = 0

    def read() -> float:
        nonlocal readings
        readings += 1
        before(readings)
        return readings * seconds

    return read


def queue_file(sql: Sql, path: str, bucket: str = BUCKET) -> None:
    sql.execute("insert into lull.file_removals (bucket, path) values (%s, %s)", (bucket, path))


def queued(sql: Sql) -> list[str]:
    return [row["path"] for row in sql.execute("select path from lull.file_removals order by id")]


def test_a_lost_answer_of_a_batch_is_still_counted_once(
    through: Cleanup, proxy: FlakyProxy, sql: Sql
) -> None:
    add_drafts(sql, 1200)
    proxy.to_lose["lull_cleanup_lane"] = 2
    report = run_cleanup(through, caller="test")
    assert (report["status"], line_of(report)["did"]) == ("completed", 1200)
    assert count_sessions(sql) == 0


def test_a_lost_answer_of_finish_is_given_again(through: Cleanup, proxy: FlakyProxy, sql: Sql) -> None:
    add_drafts(sql, 10)
    proxy.to_lose["lull_finish_cleanup"] = 1
    assert run_cleanup(through, caller="test")["status"] == "completed"


def test_a_lost_answer_of_open_does_not_matter(through: Cleanup, proxy: FlakyProxy, sql: Sql) -> None:
    add_drafts(sql, 10)
    proxy.to_lose["lull_open_policy"] = 1
    assert line_of(run_cleanup(through, caller="test"))["did"] == 10


def test_a_batch_that_stays_unanswered_fails_its_policy_and_ends_the_run(
    through: Cleanup, proxy: FlakyProxy, sql: Sql
) -> None:
    add_drafts(sql, 2000)
    proxy.to_lose["lull_cleanup_lane"] = 3
    report = run_cleanup(through, caller="test")
    assert (report["status"], line_of(report)["outcome"]) == ("failed", "failed")
    assert "cannot be reached" in line_of(report)["error"]
    assert line_of(report)["did"] + count_sessions(sql) == 2000
    assert {line["outcome"] for line in report["policies"]} == {"failed", "partial"}
    assert (proxy.seen["lull_open_policy"], proxy.seen["lull_claim_file_removals"]) == (1, 0)
    assert run_cleanup(through, caller="test")["status"] == "completed"


def test_a_database_that_hangs_in_the_middle_does_not_cost_more_than_the_budget(
    through: Cleanup, proxy: FlakyProxy, sql: Sql
) -> None:
    add_drafts(sql, 10)
    proxy.to_hang = {"lull_cleanup_lane"}
    started = time.monotonic()
    report = run_cleanup(replace(through, time_budget_seconds=2), caller="test")
    assert time.monotonic() - started < 2 + 5
    assert (report["status"], line_of(report)["outcome"]) == ("failed", "failed")
    assert proxy.requests.count("POST /rest/v1/rpc/lull_open_policy") == 1


def test_a_database_that_hangs_for_good_is_left_soon_after_the_budget(
    through: Cleanup, proxy: FlakyProxy, sql: Sql
) -> None:
    proxy.to_hang = {"lull_open_policy", "lull_claim_file_removals", "lull_finish_cleanup"}
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as caught:
        run_cleanup(replace(through, time_budget_seconds=2), caller="test")
    assert time.monotonic() - started < 2 + 5
    assert caught.value.members["runId"]
    assert proxy.requests.count("POST /rest/v1/rpc/lull_finish_cleanup") == 1


def test_a_dry_run_of_a_database_that_hangs_ends_with_the_budget(through: Cleanup, proxy: FlakyProxy) -> None:
    proxy.to_hang = {"lull_preview_cleanup"}
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        preview_cleanup(replace(through, time_budget_seconds=1), through.policies, "abandoned-drafts")
    assert time.monotonic() - started < 1 + 2


SLOW_ROWS = """
    create function public.slow() returns trigger language plpgsql as $$
    begin perform pg_sleep(0.01); return old; end $$;
    create trigger slow before delete on lull.sessions for each row execute function public.slow();
"""


def test_slow_rows_leave_a_small_budget_with_more_to_do_and_not_with_a_fault(cleanup: Cleanup, sql: Sql) -> None:
    add_drafts(sql, 400)
    sql.execute(SLOW_ROWS)
    started = time.monotonic()
    try:
        report = run_cleanup(replace(cleanup, time_budget_seconds=2), caller="test")
    finally:
        sql.execute("drop function public.slow cascade")
    assert time.monotonic() - started < 2 + 1
    assert (report["status"], line_of(report)["outcome"]) == ("partial", "partial")
    assert 0 < line_of(report)["did"] < 400
    assert line_of(report)["next_run"] == "the next run goes on"


def test_storage_that_hangs_does_not_cost_more_than_the_budget(
    cleanup: Cleanup, sql: Sql, environment: dict[str, str]
) -> None:
    queue_file(sql, "x")
    with broken_server("hangs") as server:
        hanging = FileStorage(settings(environment, supabase_url=server.url))
        started = time.monotonic()
        report = run_cleanup(replace(cleanup, storage=hanging, time_budget_seconds=2), caller="test")
        assert time.monotonic() - started < 2 + 5
    assert (report["status"], queued(sql)) == ("completed", ["x"])
    assert report["files"]["error"] == "The file storage cannot be reached. Try again later."


def test_a_lost_answer_of_begin_is_not_repeated(through: Cleanup, proxy: FlakyProxy, sql: Sql) -> None:
    add_drafts(sql, 10)
    proxy.to_lose["lull_begin_cleanup"] = 1
    with pytest.raises(DatabaseUnavailable):
        run_cleanup(through, caller="test")
    assert proxy.seen["lull_begin_cleanup"] == 1
    assert count_sessions(sql) == 10
    sql.execute("update lull.cleanup_runs set lease_until = now()")
    assert line_of(run_cleanup(through, caller="test"))["did"] == 10


def test_the_run_after_an_unreachable_database_is_unaffected(
    cleanup: Cleanup, environment: dict[str, str]
) -> None:
    with broken_server("502 with HTML") as server:
        broken = create_cleanup(settings(environment, supabase_url=server.url))
        with pytest.raises(DatabaseUnavailable):
            run_cleanup(broken, caller="test")
    assert run_cleanup(cleanup, caller="test")["status"] == "completed"


def test_a_run_that_lost_its_lease_stops_at_once_and_says_so(cleanup: Cleanup, sql: Sql) -> None:
    add_drafts(sql, 1200)

    def take_over(reading: int) -> None:
        if reading == 12:
            sql.execute("update lull.cleanup_runs set status = 'abandoned', finished_at = now()")

    with pytest.raises(Problem, match="does not hold the lease") as caught:
        run_cleanup(replace(cleanup, clock=ticking(0.001, take_over)), caller="test")
    assert caught.value.status == 409
    run = sql.execute("select id from lull.cleanup_runs").fetchone()
    assert run is not None
    assert caught.value.members["runId"] == str(run["id"])
    counted = sql.execute("select sum(did) as n from lull.cleanup_run_policies").fetchone()
    assert counted is not None
    assert 0 < counted["n"] == 1200 - count_sessions(sql) < 1200
    assert line_of(run_cleanup(cleanup, caller="test"))["did"] == count_sessions(sql) + 1200 - counted["n"]


def test_a_run_out_of_time_stops_and_says_that_there_is_more(cleanup: Cleanup, sql: Sql) -> None:
    add_drafts(sql, 3000)
    hurried = replace(cleanup, time_budget_seconds=20, clock=ticking(2))
    answer = run_cleanup(hurried, caller="test", only="abandoned-drafts")
    assert (answer["status"], line_of(answer)["outcome"]) == ("partial", "partial")
    assert 0 < line_of(answer)["did"] == 3000 - count_sessions(sql) < 3000
    report = run_report(FinishedRun.model_validate(answer), cleanup.policies, "abandoned-drafts")
    assert report.model_dump(by_alias=True)["hasMore"] is True


def test_policies_that_time_left_out_come_first_in_the_next_run(cleanup: Cleanup, sql: Sql) -> None:
    hurried = replace(cleanup, time_budget_seconds=20, clock=ticking(2))
    first = run_cleanup(hurried, caller="test")
    opened = [line["policy"] for line in first["policies"] if line["cutoff"]]
    left_out = [line["policy"] for line in first["policies"] if not line["cutoff"]]
    assert opened
    assert left_out
    second = run_cleanup(hurried, caller="test")
    assert [line["policy"] for line in second["policies"]] == left_out + opened


def test_files_go_through_storage_and_what_is_absent_is_settled(
    cleanup: Cleanup, sql: Sql, storage: httpx.Client
) -> None:
    storage.post(f"/object/{BUCKET}/run/there", content=b"bytes", headers={"content-type": "text/plain"}).raise_for_status()
    queue_file(sql, "run/there")
    queue_file(sql, "run/never-was")
    files = run_cleanup(cleanup, caller="test")["files"]
    assert (files["removed"], files["failed"], files["queued"], files["error"]) == (2, 0, 0, None)
    assert storage.get(f"/object/{BUCKET}/run/there").status_code == 400


def test_a_missing_bucket_fails_its_files_and_no_others(cleanup: Cleanup, sql: Sql) -> None:
    queue_file(sql, "a", bucket="gone-bucket")
    queue_file(sql, "b")
    files = run_cleanup(cleanup, caller="test")["files"]
    assert (files["removed"], files["failed"], queued(sql)) == (1, 1, ["a"])
    row = sql.execute("select last_error from lull.file_removals").fetchone()
    assert row == {"last_error": 'the bucket "gone-bucket" does not exist'}


def test_odd_paths_and_buckets_fail_alone(cleanup: Cleanup, sql: Sql, storage: httpx.Client) -> None:
    storage.post(f"/object/{BUCKET}/good", content=b"bytes", headers={"content-type": "text/plain"}).raise_for_status()
    odd = ["", "a//b", "/a", "a\\b"]
    absent = ["../../bucket/x", "..", "a\nb", "%2e%2e/x"]
    for path in [*odd, *absent, "good"]:
        queue_file(sql, path)
    for bucket in ["", "..", "a/b", "x" * 300]:
        queue_file(sql, "p", bucket=bucket)
    files = run_cleanup(cleanup, caller="test")["files"]
    assert (files["removed"], files["failed"], files["error"]) == (len(absent) + 1, len(odd) + 4, None)
    assert queued(sql) == [*odd, "p", "p", "p", "p"]
    counted = sql.execute("select distinct attempts from lull.file_removals").fetchall()
    assert counted == [{"attempts": 1}]


def test_a_path_that_storage_refuses_fails_alone(
    cleanup: Cleanup, through: Cleanup, proxy: FlakyProxy, sql: Sql
) -> None:
    for path in ["a", "b", "poison", *"cdefg"]:
        queue_file(sql, path)
    proxy.poison = b"poison"
    files = run_cleanup(through, caller="test")["files"]
    assert (files["removed"], files["failed"], files["error"]) == (7, 1, None)
    row = sql.execute("select path, attempts, last_error from lull.file_removals").fetchone()
    assert row == {"path": "poison", "attempts": 1, "last_error": "Storage refused: Invalid key: poison"}


def test_slow_storage_does_not_cost_the_run_its_lease(through: Cleanup, proxy: FlakyProxy, sql: Sql) -> None:
    for number in range(120):
        queue_file(sql, f"many/{number}")
    proxy.storage_delay = 0.1
    hasty = replace(through, lease_seconds=5, time_budget_seconds=9999, clock=ticking(1))
    files = run_cleanup(hasty, caller="test")["files"]
    assert (files["removed"], files["queued"], files["error"]) == (120, 0, None)
    assert proxy.seen["lull_settle_file_removals"] > 3
    assert proxy.requests.count(f"GET /storage/v1/bucket/{BUCKET}") == 1


def test_while_storage_is_down_rows_go_and_files_wait(
    cleanup: Cleanup, sql: Sql, environment: dict[str, str]
) -> None:
    add_drafts(sql, 10)
    queue_file(sql, "x")
    down = replace(cleanup, storage=FileStorage(settings(environment, supabase_url=refusing_url())))
    report = run_cleanup(down, caller="test")
    assert (report["status"], line_of(report)["did"]) == ("completed", 10)
    assert report["files"]["error"] == "The file storage cannot be reached. Try again later."
    assert (report["files"]["queued"], queued(sql)) == (1, ["x"])
    assert run_cleanup(cleanup, caller="test")["files"]["removed"] == 1


def test_files_that_time_left_out_go_in_the_next_run(cleanup: Cleanup, sql: Sql) -> None:
    sql.execute(
        "insert into lull.file_removals (bucket, path) "
        "select %s, 'many/' || n from generate_series(1, 1201) n",
        (BUCKET,),
    )
    first = run_cleanup(replace(cleanup, time_budget_seconds=1), caller="test")["files"]
    assert first["removed"] + first["queued"] == 1201
    assert first["queued"] > 0
    assert run_cleanup(cleanup, caller="test")["files"]["removed"] == first["queued"]
