"""The life of a session over HTTP, as seed 003 tells it and the state machine allows it."""

from typing import Any

import httpx
import psycopg
import pytest

from tests.callers import SESSIONS, as_holder, as_service, as_user, events_of, problem_of, start
from tests.calls import ADMIN, CLEANUP, count_sessions

Sql = psycopg.Connection[Any]
Environment = dict[str, str]


def age(sql: Sql, hours: int) -> None:
    sql.execute(
        "update lull.sessions set last_activity_at = last_activity_at - make_interval(hours => %s)", (hours,)
    )


def did(answer: httpx.Response) -> tuple[str, str]:
    """What an activation did: whether it activated, whether it restored."""
    return answer.headers["session-activated"], answer.headers["session-restored"]


def test_with_the_flag_off_a_chat_begins_with_its_first_message(api: httpx.Client, sql: Sql) -> None:
    refused = api.post(SESSIONS, json={"kind": "chat"})
    assert problem_of(refused) == (403, "early-sessions-off")
    assert 'at the first message instead, with "status": "active"' in refused.json()["detail"]
    assert count_sessions(sql) == 0
    answer = api.post(SESSIONS, json={"kind": "chat", "status": "active"})
    session = answer.json()["session"]
    assert (answer.status_code, session["status"]) == (201, "active")
    assert session["firstMessageAt"] == session["createdAt"]


def test_with_the_flag_on_a_draft_waits_for_its_first_message(early: httpx.Client) -> None:
    address, owner = start(early, title="Plans", externalKey="k-1", mode="fast", metadata={"a": [1, None]})
    draft = early.get(address, headers=owner)
    session = draft.json()["session"]
    assert draft.headers["etag"] == '"1"'
    assert draft.headers["cache-control"] == "no-store"
    assert {name: session[name] for name in ("status", "title", "externalKey", "mode", "metadata")} == {
        "status": "draft", "title": "Plans", "externalKey": "k-1", "mode": "fast", "metadata": {"a": [1, None]}
    }  # fmt: skip
    first = early.post(f"{address}/activate", headers=owner)
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert first.json()["session"]["firstMessageAt"].endswith("Z")
    assert did(first) == ("true", "false")
    second = early.post(f"{address}/activate", headers=owner)
    assert (second.json(), did(second)) == (first.json(), ("false", "false"))


@pytest.mark.parametrize("kind", ["game", "room"])
def test_games_and_rooms_need_no_flag(kind: str, api: httpx.Client) -> None:
    assert api.post(SESSIONS, json={"kind": kind}).json()["session"]["status"] == "draft"


def test_an_untouched_draft_goes_and_a_late_activation_brings_it_back_whole(
    early: httpx.Client, api: httpx.Client, sql: Sql
) -> None:
    address, owner = start(early, title="Kept", metadata={"draft": True})
    start(early, status="active")
    identity = address.rsplit("/", 1)[1]
    sql.execute("insert into lull.session_participants (session_id, name, last_seen_at) values (%s, 'Ada', now() - interval '9 days')", (identity,))
    age(sql, 23)
    assert early.post(CLEANUP, headers=ADMIN).json()["deleted"] == 0
    age(sql, 1)
    assert early.get(CLEANUP, headers=ADMIN).json()["wouldDelete"] == 1
    assert early.post(CLEANUP, headers=ADMIN).json()["deleted"] == 1
    assert problem_of(api.get(address, headers=owner)) == (410, "session-archived")
    assert api.get(address).status_code == 404
    assert api.post(f"{address}/activate").status_code == 404
    back = api.post(f"{address}/activate", headers=owner)  # the flag is off here: it gates creation only
    assert (back.status_code, did(back)) == (200, ("true", "true"))
    assert back.json()["session"]["title"] == "Kept"
    assert [row["name"] for row in sql.execute("select name from lull.session_participants")] == ["Ada"]
    assert count_sessions(sql) == 2
    assert events_of(api, address, owner) == ["created", "archived", "restored", "activated"]


def test_only_the_owner_of_a_purged_draft_gets_410(
    early: httpx.Client, environment: Environment, sql: Sql
) -> None:
    address, owner = start(early)
    age(sql, 25)
    early.post(CLEANUP, headers=ADMIN)
    sql.execute("update lull.archive_pages set purge_after = now() - interval '1 day'")
    early.post(CLEANUP, headers=ADMIN)
    user = as_user(environment)
    for verb in ("activate", "pause", "resume", "end", "claim-ownership"):
        answer = early.post(f"{address}/{verb}", headers=user | owner)
        assert problem_of(answer) == (410, "session-gone")
        stranger = early.post(f"{address}/{verb}", headers=user | as_holder("another"))
        assert problem_of(stranger) == (404, "not-found")


def test_every_transition_appends_an_event(early: httpx.Client, environment: Environment) -> None:
    address, owner = start(early, as_user(environment))
    for verb, status in [("activate", "active"), ("pause", "paused"), ("resume", "active"), ("end", "ended")]:
        answer = early.post(f"{address}/{verb}", headers=owner)
        session = answer.json()["session"]
        assert (answer.status_code, session["status"]) == (200, status)
        assert answer.headers["etag"] == f'"{session["version"]}"'
        assert (session["pausedAt"] is not None) == (status == "paused")
        assert (session["endedAt"] is not None) == (status == "ended")
    assert session["endReason"] == "ended"
    assert events_of(early, address, owner) == ["created", "activated", "paused", "resumed", "ended"]


def test_an_ended_draft_is_discarded_and_a_reason_is_kept(early: httpx.Client) -> None:
    address, owner = start(early)
    assert early.post(f"{address}/end", headers=owner).json()["session"]["endReason"] == "discarded"
    address, owner = start(early, status="active")
    ended = early.post(f"{address}/end", headers=owner, json={"reason": "solved"}).json()["session"]
    assert (ended["status"], ended["endReason"]) == ("ended", "solved")
    assert early.get(address, headers=owner).json()["session"] == ended


WAYS = {
    "draft": {"activate", "end"},
    "active": {"activate", "pause", "end"},
    "paused": {"resume", "end"},
    "ended": set[str](),
}
WAY_TO = {"draft": [], "active": ["activate"], "paused": ["activate", "pause"], "ended": ["end"]}


@pytest.mark.parametrize("verb", ["activate", "pause", "resume", "end"])
@pytest.mark.parametrize("status", WAYS)
def test_a_transition_that_the_diagram_lacks_is_409_with_the_status(
    status: str, verb: str, api: httpx.Client
) -> None:
    address, owner = start(api, kind="game")
    for step in WAY_TO[status]:
        assert api.post(f"{address}/{step}", headers=owner).status_code == 200
    before = api.get(address, headers=owner)
    answer = api.post(f"{address}/{verb}", headers=owner)
    if verb in WAYS[status]:
        assert answer.status_code == 200
    else:
        assert problem_of(answer) == (409, "wrong-status")
        assert answer.json()["currentStatus"] == status
        assert api.get(address, headers=owner).json() == before.json()


@pytest.mark.parametrize("verb", ["activate", "pause", "resume", "end"])
def test_a_version_that_is_not_the_current_one_changes_nothing(verb: str, api: httpx.Client) -> None:
    address, owner = start(api, kind="game")
    for step in {"pause": ["activate"], "resume": ["activate", "pause"]}.get(verb, []):
        api.post(f"{address}/{step}", headers=owner)
    current = api.get(address, headers=owner)
    answer = api.post(f"{address}/{verb}", headers={**owner, "If-Match": '"99"'})
    assert problem_of(answer) == (412, "version-mismatch")
    version = current.json()["session"]["version"]
    assert (answer.json()["version"], api.get(address, headers=owner).json()) == (version, current.json())
    fitting = {**owner, "If-Match": current.headers["etag"]}
    assert api.post(f"{address}/{verb}", headers=fitting).status_code == 200


def test_the_list_has_the_callers_own_newest_first_in_pages(
    early: httpx.Client, environment: Environment
) -> None:
    mine, theirs = as_user(environment), as_user(environment)
    made = [start(early, mine, kind=kind)[0] for kind in ["chat", "game", "room", "chat", "game"] * 5]
    start(early, theirs)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = early.get(f"{SESSIONS}?limit=7{cursor and '&cursor=' + cursor}", headers=mine).json()
        assert len(page["sessions"]) <= 7
        seen += [f"{SESSIONS}/{session['id']}" for session in page["sessions"]]
        cursor = page["nextCursor"]
    assert seen == made[::-1]
    games = early.get(f"{SESSIONS}?kind=game&status=draft", headers=mine).json()
    assert ([session["kind"] for session in games["sessions"]], games["nextCursor"]) == (["game"] * 10, None)
    assert early.get(f"{SESSIONS}?status=active", headers=mine).json()["sessions"] == []
    assert len(early.get(f"{SESSIONS}?limit=100", headers=as_service(environment)).json()["sessions"]) == 26


def test_the_holder_of_a_token_lists_its_one_session(early: httpx.Client) -> None:
    address, owner = start(early)
    start(early)
    sessions = early.get(SESSIONS, headers=owner).json()["sessions"]
    assert [f"{SESSIONS}/{session['id']}" for session in sessions] == [address]
    assert early.get(SESSIONS, headers=as_holder("another")).json() == {"sessions": [], "nextCursor": None}


def test_events_are_read_from_where_one_stopped(early: httpx.Client) -> None:
    address, owner = start(early, status="active")
    for verb in ["pause", "resume"] * 3:
        early.post(f"{address}/{verb}", headers=owner)
    seen: list[str] = []
    after, more = 0, True
    while more:
        page = early.get(f"{address}/events?after={after}&limit=2", headers=owner).json()
        seen += [event["event"] for event in page["events"]]
        after, more = page["events"][-1]["id"], page["more"]
    assert seen == ["created", *["paused", "resumed"] * 3]
    assert early.get(f"{address}/events?after={after}", headers=owner).json() == {"events": [], "more": False}


def test_a_silent_active_session_shows_as_expired_and_wakes_up_by_activity(
    api: httpx.Client, sql: Sql
) -> None:
    address, owner = start(api, kind="game", status="active")
    age(sql, 1)
    assert api.get(address, headers=owner).json()["session"]["expired"] is True
    assert api.post(f"{address}/pause", headers=owner).json()["session"]["expired"] is False


def test_a_room_that_came_back_by_activation_is_not_taken_again_at_once(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    address, owner = start(api, kind="room", status="active")
    age(sql, 2)
    api.post(CLEANUP, headers=admin)
    back = api.post(f"{address}/activate", headers=owner)
    assert (did(back), back.json()["session"]["expired"]) == (("false", "true"), False)
    api.post(CLEANUP, headers=admin)
    assert api.get(address, headers=owner).json() == back.json()
