"""What a receiver gets, whatever it answers: every event, in order within its session, duplicates with one id."""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from infra.local import ports
from infra.local.stack import start_api
from tests.broken_server import refusing_url
from tests.calls import ADMIN, CLEANUP, add_session, settings
from tests.events.conftest import ApiFor
from tests.events.event_log import DELIVER, append, counts, deliver, due_again
from tests.events.receiver import SECRET, Received, Receiver

Sql = psycopg.Connection[Any]


def test_an_event_arrives_signed_with_the_fields_of_the_event_log(
    webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    session = add_session(sql)
    sql.execute("select lull.append_event(%s, 'chat', 'activated', '{\"title\": \"Zoë\"}')", (session,))
    assert counts(deliver(webhook_api)) == (1, 0, 0, 0)
    [message] = receiver.messages  # the receiver has verified its signature with the library
    body = json.loads(message.body)
    assert (message.id, message.path) == ("evt_1", "/hooks")
    assert message.headers["content-type"] == "application/json"
    assert (body["type"], body["timestamp"][-1]) == ("session.activated", "Z")
    assert body["data"] == {
        "id": 1, "sessionId": session, "kind": "chat", "event": "activated", "at": body["timestamp"],
        "data": {"title": "Zoë"},
    }  # fmt: skip
    assert counts(deliver(webhook_api)) == (0, 0, 0, 0)


def test_the_query_of_the_receivers_url_is_sent(api_for: ApiFor, receiver: Receiver, sql: Sql) -> None:
    append(sql, sessions=1, events=1)
    assert counts(deliver(api_for(f"{receiver.url}?tenant=7&key=a%20b"))) == (1, 0, 0, 0)
    assert [message.path for message in receiver.messages] == ["/hooks?tenant=7&key=a%20b"]


def test_everything_arrives_once_and_in_order_within_each_session(
    webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    expected = append(sql, sessions=40, events=5)
    assert counts(deliver(webhook_api)) == (200, 0, 0, 0)
    assert receiver.order() == expected
    assert set(receiver.duplicates().values()) == {1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (500, "the receiver answered 500"),
        (404, "the receiver answered 404"),
        (429, "the receiver answered 429"),
        (302, "the receiver answered 302: redirects are not followed"),
        (307, "the receiver answered 307: redirects are not followed"),
        ("hangs up", "the receiver closed the connection: RemoteProtocolError"),
    ],
)
def test_a_receiver_that_does_not_take_an_event_gets_it_again(
    answer: int | str, reason: str, webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    expected = append(sql, sessions=2, events=2)
    receiver.answers(answer)
    report = deliver(webhook_api)
    assert counts(report) == (0, 2, 0, 4)
    assert report["errors"] == {reason: 2}
    assert {message.path for message in receiver.messages} == {"/hooks"}
    assert counts(deliver(webhook_api)) == (0, 0, 0, 4), "not due yet"
    due_again(sql)
    receiver.answers(200)
    assert counts(deliver(webhook_api)) == (4, 0, 0, 0)
    assert receiver.order() == expected
    assert sorted(receiver.duplicates().values()) == [1, 1, 2, 2]
    assert len({(message.id, message.body) for message in receiver.messages}) == 4


def test_a_receiver_that_is_down_loses_nothing(api_for: ApiFor, sql: Sql) -> None:
    receiver = Receiver()
    with receiver.listening():
        api = api_for(receiver.url)
    expected = append(sql, sessions=3, events=2)
    report = deliver(api)
    assert counts(report) == (0, 3, 0, 6)
    assert report["errors"] == {"the receiver could not be connected to": 3}
    due_again(sql)
    with receiver.listening():
        assert counts(deliver(api)) == (6, 0, 0, 0)
    assert receiver.order() == expected


@pytest.mark.parametrize("answer", ["hangs", "drips"])
def test_a_slow_receiver_costs_one_time_out_and_gets_everything_later(
    answer: str, webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    expected = append(sql, sessions=40)
    receiver.answers(answer)
    began = time.monotonic()
    report = deliver(webhook_api)
    assert time.monotonic() - began < 9
    assert counts(report) == (0, 16, 0, 40)
    assert report["errors"] == {"the receiver did not answer within 5 seconds": 16}
    receiver.stopping.set()
    receiver.answers(200)
    due_again(sql)
    assert counts(deliver(webhook_api)) == (40, 0, 0, 0)
    assert receiver.order() == expected


def test_a_receiver_that_said_yes_has_the_event_however_long_its_answer_takes(
    webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    append(sql, sessions=1)
    receiver.answers("drips its body")
    assert counts(deliver(webhook_api)) == (1, 0, 0, 0)


def test_a_receiver_that_is_gone_makes_dead_letters_at_once_and_of_no_more_than_a_round(
    webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    append(sql, sessions=20, events=2)
    receiver.answers(410)
    report = deliver(webhook_api)
    assert counts(report) == (0, 0, 16, 24)
    assert report["errors"] == {"the receiver answered 410: it wants no more events": 16}


def test_a_flapping_receiver_gets_every_event_in_order(
    webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    expected = append(sql, sessions=12, events=6)
    chance = random.Random(7)
    answers: list[int | str] = [200, 200, 204, 500, 503, 302, "hangs up"]
    receiver.behave = lambda _: chance.choice(answers)
    for _ in range(200):
        if deliver(webhook_api)["pending"] == 0:
            break
        due_again(sql)
    assert receiver.order() == expected
    assert {message.id for message in receiver.messages} == {
        f"evt_{event}" for of in expected.values() for event in of
    }
    bodies = {(message.id, message.body) for message in receiver.messages}
    assert len(bodies) == len(receiver.duplicates()) == 72


def test_after_a_day_of_trying_an_event_is_dead_and_its_session_goes_on(
    webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    [(_, [first, second])] = append(sql, sessions=1, events=2).items()
    receiver.behave = lambda message: 500 if message.event == first else 200
    assert counts(deliver(webhook_api)) == (0, 1, 0, 2)
    due_again(sql)
    sql.execute(
        "update lull.deliveries set first_tried_at = now() - interval '24 h' where first_tried_at is not null"
    )
    # A round in which nothing is delivered is the last.
    assert counts(deliver(webhook_api)) == (0, 0, 1, 1)
    assert counts(deliver(webhook_api)) == (1, 0, 0, 0)
    assert [message.event for message in receiver.accepted] == [second]


def test_two_deliverers_at_once_do_not_double_the_traffic(
    api_for: ApiFor, receiver: Receiver, sql: Sql
) -> None:
    expected = append(sql, sessions=60, events=3)
    apis = [api_for(receiver.url) for _ in range(3)]
    reports: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda api=api: reports.append(deliver(api))) for api in apis]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reports.append(deliver(apis[0]))
    assert sum(report["delivered"] for report in reports) == 180
    assert receiver.order() == expected
    assert set(receiver.duplicates().values()) == {1}


def test_a_killed_deliverer_loses_nothing_and_its_duplicates_have_the_same_ids(
    environment: dict[str, str], webhook_api: httpx.Client, receiver: Receiver, sql: Sql, tmp_path: Path
) -> None:
    expected = append(sql, sessions=20, events=3)
    accepted = threading.Semaphore(0)

    def stall(message: Received) -> str | int:
        """Take some, and leave the rest without an answer."""
        accepted.release()
        return 200 if message.event % 20 < 8 else "hangs"

    receiver.behave = stall
    port = ports.find_free()
    webhook = {
        "EVENTS_WEBHOOK_URL": receiver.url,
        "EVENTS_WEBHOOK_SECRET": SECRET,
        "EVENTS_WEBHOOK_ALLOW_PRIVATE": "true",
    }
    child = start_api({**environment, **webhook}, port, environ=os.environ, log=tmp_path / "api.log")
    headers = {"Authorization": f"Bearer {environment['CRON_SECRET']}"}

    def post() -> None:
        try:
            httpx.post(f"http://{ports.HOST}:{port}{DELIVER}", headers=headers, timeout=60, trust_env=False)
        except httpx.TransportError:
            killed.set()

    killed = threading.Event()
    caller = threading.Thread(target=post)
    caller.start()
    for _ in range(16):
        assert accepted.acquire(timeout=30)
    os.kill(child.pid, signal.SIGKILL)
    caller.join()
    child.stop()
    assert killed.is_set()
    assert counts(deliver(webhook_api))[3] > 0, "what the dead one claimed waits until its claim runs out"
    receiver.stopping.set()
    receiver.answers(200)
    due_again(sql)
    assert deliver(webhook_api)["pending"] == 0
    assert receiver.order() == expected
    bodies = {(message.id, message.body) for message in receiver.messages}
    assert len(bodies) == len(receiver.duplicates()) == 60
    assert max(receiver.duplicates().values()) == 2


def test_events_of_sessions_that_the_cleanup_took_are_delivered_after_its_run(
    webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    session = add_session(sql)
    answer = webhook_api.post(CLEANUP, headers=ADMIN)
    assert (answer.status_code, answer.json()["deleted"]) == (200, 1)
    [message] = receiver.messages
    assert (message.session, json.loads(message.body)["type"]) == (session, "session.archived")


@pytest.mark.parametrize("answer", ["hangs", 500, "hangs up"])
def test_a_bad_receiver_neither_fails_nor_holds_up_the_cleanup(
    answer: str | int, webhook_api: httpx.Client, receiver: Receiver, sql: Sql
) -> None:
    add_session(sql)
    receiver.answers(answer)
    began = time.monotonic()
    report = webhook_api.post(CLEANUP, headers=ADMIN)
    assert (report.status_code, report.json()["deleted"]) == (200, 1)
    assert time.monotonic() - began < 10
    assert report.json()["durationMs"] < 4000
    assert len(receiver.messages) == 1


def test_webhooks_that_cannot_be_used_do_not_fail_the_cleanup(api_for: ApiFor, sql: Sql) -> None:
    add_session(sql)
    for changes in ({"events_webhook_secret": None}, {"events_webhook_allow_private": False}):
        assert api_for(refusing_url(), **changes).post(CLEANUP, headers=ADMIN).status_code == 200


def test_a_cleanup_without_webhooks_reads_nothing(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    add_session(sql)
    assert api.post(CLEANUP, headers=admin).status_code == 200
    assert sql.execute("select * from lull.event_readers where name = 'webhook'").fetchall() == []


def test_a_database_that_is_away_is_a_503(receiver: Receiver, api_for: ApiFor) -> None:
    answer = api_for(receiver.url, supabase_url=refusing_url()).post(DELIVER, headers=ADMIN)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:lull:problem:database-unavailable")


def test_only_the_admin_delivers(webhook_api: httpx.Client) -> None:
    assert webhook_api.post(DELIVER).status_code == 401


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"events_webhook_url": None}, "EVENTS_WEBHOOK_URL is not set"),
        ({"events_webhook_secret": None}, "EVENTS_WEBHOOK_SECRET is not set"),
        ({"events_webhook_secret": "whsec_c2hvcnQ="}, "EVENTS_WEBHOOK_SECRET must be whsec_"),
        (
            {"events_webhook_secret": "whsec_not base64 at all, and long"},
            "EVENTS_WEBHOOK_SECRET must be whsec_",
        ),
        ({"events_webhook_secret": SECRET.removeprefix("whsec_")}, "EVENTS_WEBHOOK_SECRET must be whsec_"),
        ({"events_webhook_allow_private": False}, "EVENTS_WEBHOOK_URL must begin with https"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    changes: dict[str, Any], variable: str, api_for: ApiFor, sql: Sql
) -> None:
    append(sql, sessions=1)
    answer = api_for("http://127.0.0.1:9/", **changes).post(DELIVER, headers=ADMIN)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:lull:problem:not-configured")
    assert variable in answer.json()["detail"]
    assert sql.execute("select * from lull.deliveries").fetchall() == []


def test_the_secret_is_shown_nowhere() -> None:
    assert SECRET not in repr(settings(events_webhook_secret=SECRET))
