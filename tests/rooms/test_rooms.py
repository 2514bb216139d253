"""Rooms over HTTP: joining, presence, leaving, expiry."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.callers import as_service, as_user, problem_of, start
from tests.calls import settings
from tests.in_process import client_of
from tests.rooms.people import Person, an_invite, enter

Row = dict[str, object]


@pytest.fixture
def service(environment: dict[str, str]) -> dict[str, str]:
    return as_service(environment)


def age_all(sql: psycopg.Connection[Any], by: str) -> None:
    """Make every clock of every session older."""
    sql.execute("update lull.sessions set last_activity_at = last_activity_at - %s::interval", (by,))
    sql.execute("update lull.session_participants set last_seen_at = last_seen_at - %s::interval", (by,))


def test_a_room_from_its_link_to_its_end(api: httpx.Client, sql: psycopg.Connection[Row]) -> None:
    address, owner = start(api, kind="room")
    invite = api.post(f"{address}/invites", json={"maxUses": 1}, headers=owner)
    assert (invite.status_code, invite.json()["uses"], invite.json()["maxUses"]) == (201, 0, 1)
    ada = enter(api, address, name="Ada", invite=invite.json()["token"])
    assert ada.joined["status"] == "active"
    assert ada.joined["beatSeconds"] == 30
    assert ada.joined["participant"] | {"id": "", "joinedAt": ""} == {
        "id": "", "name": "Ada", "state": "here", "joinedAt": "", "you": True}  # fmt: skip
    host = enter(api, address, headers=owner, name="Host")
    listed = api.get(f"{address}/participants", headers=ada.headers).json()
    assert [(one["name"], one["you"], "userId" in one) for one in listed] == [
        ("Ada", True, False), ("Host", False, False)]  # fmt: skip
    assert "userId" in api.get(f"{address}/participants", headers=owner).json()[0]
    assert ada.beat().json().keys() == {"status", "expiresAt", "warnAt", "beatSeconds"}
    assert api.post(f"{address}/touch", headers=ada.headers).json().keys() == {"expiresAt", "warnAt"}
    assert ada.leave().status_code == 204
    assert problem_of(ada.beat()) == (409, "participant-left")
    removal = api.delete(f"{address}/participants/{host.id}", headers=owner)
    assert removal.status_code == 204
    assert problem_of(host.beat()) == (409, "participant-removed")
    names = [event["event"] for event in api.get(f"{address}/events", headers=owner).json()["events"]]
    assert names == ["created", "activated", "participant.joined", "participant.joined", "participant.left",
        "participant.removed"]  # fmt: skip
    assert api.post(f"{address}/end", headers=owner).status_code == 200
    assert problem_of(ada.join()) == (409, "wrong-status")


def test_a_user_on_two_devices_is_one_participant(api: httpx.Client, environment: dict[str, str]) -> None:
    user = as_user(environment)
    address, _ = start(api, user, kind="room")
    one, two = enter(api, address, headers=user, anonymous=None), enter(api, address, headers=user, anonymous=None)
    assert one.id == two.id
    assert len(api.get(f"{address}/participants", headers=user).json()) == 1
    assert api.post(f"{address}/heartbeat", json={"tab": two.tab}, headers=user).status_code == 200


def test_the_service_lets_a_user_in(api: httpx.Client, service: dict[str, str], environment: dict[str, str]) -> None:
    address, owner = start(api, kind="room")
    user = str(uuid4())
    joined = api.post(f"{address}/join", json={"accessMethod": "direct", "tab": "t", "userId": user}, headers=service)
    assert joined.status_code == 200
    listed = api.get(f"{address}/participants", headers=as_user(environment, user)).json()
    assert [one["you"] for one in listed] == [True]
    body = {"accessMethod": "direct", "tab": "t", "userId": user}
    assert problem_of(api.post(f"{address}/join", json=body, headers=owner)) == (422, "invalid-request")


def test_expired_is_expired_before_and_after_the_cleanup(
    api: httpx.Client, sql: psycopg.Connection[Row], admin: dict[str, str]
) -> None:
    address, owner = start(api, kind="room", status="active")
    ada = enter(api, address, invite=an_invite(api, address, owner))
    answer = api.get(f"{address}/expiry", headers=ada.headers).json()
    assert (answer["expired"], answer["reason"], 3590 <= answer["secondsLeft"] <= 3600) == (False, "active", True)
    age_all(sql, "61 min")
    assert api.get(f"{address}/expiry", headers=ada.headers).json()["reason"] == "idle"
    assert api.get(address, headers=owner).json()["session"]["expired"]
    for _ in range(2):
        assert problem_of(ada.beat()) == (410, "session-expired")
        assert problem_of(ada.leave()) == (410, "session-expired")
        assert problem_of(ada.join()) == (410, "session-expired")
        assert problem_of(api.get(f"{address}/participants", headers=ada.headers)) == (410, "session-expired")
        assert api.post("/api/admin/cleanup-sessions", headers=admin).status_code == 200
    assert api.get(f"{address}/expiry", headers=ada.headers).json() == {
        "expired": True, "expiresAt": None, "warnAt": None, "secondsLeft": None, "reason": "cleaned"}  # fmt: skip
    assert problem_of(api.get(f"{address}/expiry")) == (404, "not-found")
    assert problem_of(api.post(f"{address}/heartbeat", json={"tab": "t"})) == (404, "not-found")


def test_a_foreign_session_is_404_like_an_absent_one(api: httpx.Client, environment: dict[str, str]) -> None:
    address, _ = start(api, kind="room", status="active")
    stranger = as_user(environment)
    elsewhere, owner = start(api, kind="room", status="active")
    wrong = enter(api, elsewhere, headers=owner).headers
    for headers in (stranger, {}, wrong, {"X-Participant-Token": "x" * 64}):
        for room in (address, f"/api/sessions/{uuid4()}"):
            for method, path, body in (
                ("POST", "join", {"accessMethod": "direct", "tab": "t", "anonymousId": "a" * 22}),
                ("POST", "heartbeat", {"tab": "t"}), ("POST", "leave", {}), ("POST", "touch", None),
                ("GET", "participants", None), ("GET", "expiry", None), ("GET", "invites", None),
                ("DELETE", f"participants/{uuid4()}", None), ("DELETE", f"invites/{uuid4()}", None),
            ):  # fmt: skip
                answer = api.request(method, f"{room}/{path}", json=body, headers=headers)
                assert problem_of(answer) == (404, "not-found"), (method, path)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x" * 81}, {"name": "a\nb"}, {"name": ""}, {"nick": "x"}, {"tab": ""}, {"tab": "x" * 65},
        {"accessMethod": "link"}, {"anonymousId": "short"}, {"accessMethod": "invite"},
    ],
)  # fmt: skip
def test_a_bad_join_is_422(change: dict[str, str], api: httpx.Client) -> None:
    address, owner = start(api, kind="room", status="active")
    body = {"accessMethod": "direct", "tab": "t", "name": "Ada", "anonymousId": "a" * 22} | change
    assert problem_of(api.post(f"{address}/join", json=body, headers=owner)) == (422, "invalid-request")


def test_a_new_person_needs_an_identity(api: httpx.Client) -> None:
    address, owner = start(api, kind="room", status="active")
    body = {"accessMethod": "direct", "tab": "t"}
    answer = api.post(f"{address}/join", json=body, headers=owner)
    assert problem_of(answer) == (422, "invalid-request")
    assert answer.json()["errors"] == [{"field": "anonymousId", "message": "is needed without an account"}]


def test_tokens_and_links_outlive_a_rotation_of_their_secret(
    api: httpx.Client, environment: dict[str, str]
) -> None:
    from api.composition import create_app
    from tests.calls import settings
    from tests.in_process import client_of

    old, new = "the-secret-of-old-days", "the-secret-of-new-days"
    with client_of(create_app(settings(environment, session_token_secret=old))) as before:
        address, owner = start(before, kind="room", status="active")
        token = an_invite(before, address, owner)
        ada = enter(before, address, invite=token)
    changes = {"session_token_secret": new, "session_token_secret_previous": old}
    with client_of(create_app(settings(environment, **changes))) as after:
        moved = Person(after, address, ada.joined, ada.tab, ada.anonymous)
        assert moved.beat().status_code == 200
        assert moved.join(headers={}).json()["participant"]["id"] == ada.id, "by the anonymous id alone"
        enter(after, address, invite=token)
    with client_of(create_app(settings(environment, session_token_secret=new))) as later:
        assert problem_of(Person(later, address, ada.joined, ada.tab, ada.anonymous).beat()) == (404, "not-found")


def test_two_accounts_in_one_browser_are_two_participants(api: httpx.Client, environment: dict[str, str]) -> None:
    service = as_service(environment)
    room, _ = start(api, service, kind="room")
    ids = set()
    for _ in range(2):
        body = {"accessMethod": "direct", "tab": "t", "anonymousId": "x" * 30, "userId": str(uuid4())}
        for _again in range(2):
            answer = api.post(f"{room}/join", headers=service, json=body)
            assert answer.status_code == 200, answer.text
            ids.add(answer.json()["participant"]["id"])
    assert len(ids) == 2


def test_a_full_room_is_a_409_and_takes_nobody_in(environment: dict[str, str], sql: psycopg.Connection[Any]) -> None:
    service = as_service(environment)
    with client_of(create_app(settings(environment, max_participants=1))) as api:
        room, _ = start(api, service, kind="room")
        body = {"accessMethod": "direct", "tab": "t"}
        assert api.post(f"{room}/join", headers=service, json={**body, "userId": str(uuid4())}).status_code == 200
        full = api.post(f"{room}/join", headers=service, json={**body, "userId": str(uuid4())})
        assert problem_of(full) == (409, "session-full")
        assert len(api.get(f"{room}/participants", headers=service).json()) == 1
