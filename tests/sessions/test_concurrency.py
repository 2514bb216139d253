"""Many callers at once over HTTP: each is told the truth, and everything happens exactly once."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg

from tests.callers import SESSIONS, as_service, events_of, start
from tests.calls import ADMIN, CLEANUP, count_sessions
from tests.scale import examples

Sql = psycopg.Connection[Any]
COUNT = examples(150)


def at_once(count: int, call: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Make the same call so many times at once."""
    with ThreadPoolExecutor(count) as pool:
        return [each.result() for each in [pool.submit(call) for _ in range(count)]]


def test_50_activations_of_one_draft_are_one_transition_and_50_equal_answers(early: httpx.Client) -> None:
    address, owner = start(early)
    answers = at_once(50, lambda: early.post(f"{address}/activate", headers=owner))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1, "equal to the byte"
    session = answers[0].json()["session"]
    assert (session["status"], session["version"]) == ("active", 2)
    assert sum(answer.headers["session-activated"] == "true" for answer in answers) == 1
    assert events_of(early, address, owner) == ["created", "activated"]


def test_20_late_activations_of_one_archived_draft_are_one_restore(early: httpx.Client, sql: Sql) -> None:
    address, owner = start(early, title="Kept")
    sql.execute("insert into lull.session_participants (session_id, last_seen_at) "
        "select id, now() - interval '9 days' from lull.sessions"
    )
    sql.execute("update lull.sessions set last_activity_at = now() - interval '25 h'")
    assert early.post(CLEANUP, headers=ADMIN).json()["deleted"] == 1
    answers = at_once(20, lambda: early.post(f"{address}/activate", headers=owner))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.headers["session-restored"] == "true" for answer in answers) == 1
    assert len({answer.content for answer in answers}) == 1
    assert events_of(early, address, owner) == ["created", "archived", "restored", "activated"]
    assert len(sql.execute("select from lull.session_participants").fetchall()) == 1


def test_of_many_changes_of_one_version_one_wins(early: httpx.Client) -> None:
    address, owner = start(early, status="active")
    headers = {**owner, "If-Match": '"1"'}
    answers = at_once(20, lambda: early.post(f"{address}/pause", headers=headers))
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 19]
    assert events_of(early, address, owner) == ["created", "paused"]


def test_activations_beside_running_cleanups_lose_nothing(
    live_api: httpx.Client, environment: dict[str, str], admin: dict[str, str], sql: Sql
) -> None:
    """Every draft is on the edge: some are activated before a batch takes them, some while, some after."""
    sql.execute(
        "insert into lull.sessions (kind, last_activity_at) select 'chat', "
        "now() - interval '24 hours' + (n - %s) * interval '10 milliseconds' from generate_series(1, %s) n",
        (COUNT * 2 // 3, COUNT),
    )
    sql.execute("insert into lull.session_participants (session_id, last_seen_at) "
        "select id, now() - interval '9 days' from lull.sessions"
    )
    drafts = [str(row["id"]) for row in sql.execute("select id from lull.sessions order by id")]
    random.Random(7).shuffle(drafts)
    service, done = as_service(environment), False

    def activate(draft: str) -> httpx.Response:
        return live_api.post(f"{SESSIONS}/{draft}/activate", headers=service)

    def clean() -> list[httpx.Response]:
        answers = [live_api.post(CLEANUP, headers=admin)]
        while not done:
            answers.append(live_api.post(CLEANUP, headers=admin))
        return answers

    with ThreadPoolExecutor(9) as pool:
        cleaner = pool.submit(clean)
        told = list(pool.map(activate, drafts))
        done = True
        runs = cleaner.result()
    assert {answer.status_code for answer in told} == {200}
    assert {answer.status_code for answer in runs} == {200}
    taken = sum(run.json()["deleted"] for run in runs)
    restored = sum(answer.headers["session-restored"] == "true" for answer in told)
    assert (taken, count_sessions(sql)) == (restored, COUNT)
    assert taken > 0, "the cleanups did meet them"
    lost = sql.execute("select from lull.sessions where status <> 'active' or first_message_at is null")
    assert not lost.fetchall()
    assert len(sql.execute("select from lull.session_participants").fetchall()) == COUNT
    for event, count in [("activated", COUNT), ("restored", restored), ("archived", taken)]:
        assert (
            len(sql.execute("select from lull.session_events where event = %s", (event,)).fetchall()) == count
        )
