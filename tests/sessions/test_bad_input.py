"""What is refused: each refusal names its field, nothing is written, and nothing is ever a 500."""

import json
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.callers import SESSIONS, as_service, problem_of, start
from tests.calls import count_sessions

Sql = psycopg.Connection[Any]
Environment = dict[str, str]
GAME = {"kind": "game"}
JSON = {"Content-Type": "application/json"}

FIELDS = [
    ({}, "kind"),
    ({"kind": None}, "kind"),
    ({"kind": "Chat"}, "kind"),
    ({"kind": ["chat"]}, "kind"),
    ({"kind": 1}, "kind"),
    ({**GAME, "title": 1}, "title"),
    ({**GAME, "title": ""}, "title"),
    ({**GAME, "title": "x" * 201}, "title"),
    ({**GAME, "title": ["a"]}, "title"),
    ({**GAME, "title": "nul\0"}, "title"),
    ({**GAME, "externalKey": "x" * 201}, "externalKey"),
    ({**GAME, "externalKey": {}}, "externalKey"),
    ({**GAME, "mode": "x" * 51}, "mode"),
    ({**GAME, "mode": True}, "mode"),
    ({**GAME, "status": "paused"}, "status"),
    ({**GAME, "status": "ended"}, "status"),
    ({**GAME, "status": None}, "status"),
    ({**GAME, "metadata": None}, "metadata"),
    ({**GAME, "metadata": []}, "metadata"),
    ({**GAME, "metadata": "{}"}, "metadata"),
    ({**GAME, "metadata": {"a": "x" * 16_384}}, "metadata"),
    ({**GAME, "metadata": {"a": "é" * 8_192}}, "metadata"),
    ({**GAME, "metadata": {"a": ["\0"]}}, "metadata"),
    ({**GAME, "metadata": {"\0": 1}}, "metadata"),
    ({**GAME, "external_key": "k"}, "external_key"),
    ({**GAME, "Title": "k"}, "Title"),
    ({**GAME, "id": str(uuid4())}, "id"),
    ({**GAME, "ownerId": str(uuid4())}, "ownerId"),
    ({**GAME, "": 1}, ""),
    ({**GAME, "\0": 1}, "\\0"),
]

BODIES = [
    (b"", 422, "body"),
    (b" \n", 422, "body"),
    (b"[]", 422, "body"),
    (b"null", 422, "body"),
    (b'"game"', 422, "body"),
    (b"7", 422, "body"),
    (b'{"kind":"game","kind":"chat"}', 422, "body"),
    (b'{"kind":"game","metadata":{"a":1,"a":2}}', 422, "body"),
    (b'{"kind":"game","title":"\\ud800"}', 422, "title"),
    (b'{"kind":"game","title":"\\udc00\\ud800"}', 422, "title"),
    (b'{"kind":"game","metadata":{"\\udfff":1}}', 422, "metadata"),
    (b'{"kind":"game","\\ud800":1}', 422, "\\ud800"),
    (b'{"kind":"game","metadata":{"a":1e999}}', 422, "metadata"),
    (b'{"kind":"game","metadata":{"a":-1e999}}', 422, "metadata"),
    (b'{"kind":"game","metadata":{"a":' + b"9" * 1001 + b"}}", 422, "body"),
    (b'{"kind":"game","metadata":{"a":' + b"[" * 70 + b"]" * 70 + b"}}", 422, "metadata"),
    (b'{"kind":"game","metadata":' + b'{"a":' * 8000 + b"1" + b"}" * 8001, 422, "body"),
    (b"[" * 60_000, 422, "body"),
    (b'{"kind":"game","title":"' + b"x" * 65_536 + b'"}', 422, "body"),
    (b" " * 70_000, 422, "body"),
    (b'{"kind":"game"', 400, None),
    (b"kind=game", 400, None),
    (b"{'kind':'game'}", 400, None),
    (b'{"kind":"game",}', 400, None),
    (b'{"kind":"game"} x', 400, None),
    (b'{"kind":"\xff"}', 400, None),
    (b'{"kind":"game","title":"\xed\xa0\x80"}', 400, None),
    (b'\xef\xbb\xbf{"kind":"game"}', 400, None),
    ('{"kind":"game"}'.encode("utf-16"), 400, None),
    (b'{"kind":"game","metadata":{"a":NaN}}', 400, None),
    (b'{"kind":"game","metadata":{"a":-Infinity}}', 400, None),
    (b'{"kind":"game","title":"raw\x00nul"}', 400, None),
]
SOMEBODY = "6f1f4c1e-0b0d-4a57-9a3c-0d8c3b1f5a77"


def fields_of(answer: httpx.Response) -> set[str]:
    return {error["field"] for error in answer.json()["errors"]}


@pytest.mark.parametrize(("body", "field"), FIELDS)
def test_a_field_that_cannot_be_meant_is_named(
    body: dict[str, Any], field: str, api: httpx.Client, sql: Sql
) -> None:
    answer = api.post(SESSIONS, json=body)
    assert problem_of(answer) == (422, "invalid-request")
    assert field in fields_of(answer)
    assert field in answer.json()["detail"]
    assert count_sessions(sql) == 0


@pytest.mark.parametrize(("body", "status", "field"), BODIES)
def test_a_body_that_cannot_be_meant_is_refused(
    body: bytes, status: int, field: str | None, api: httpx.Client, sql: Sql
) -> None:
    answer = api.post(SESSIONS, content=body, headers=JSON)
    assert problem_of(answer) == (status, "undecodable-body" if status == 400 else "invalid-request")
    assert field is None or fields_of(answer) == {field}
    assert count_sessions(sql) == 0


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "x" * (16_384 - len('{"a": ""}'))},
        {"a": "é" * 8_187},
        {"a": [10**400, -(10**998), 1e22, 5e-324, 0.1, -0.0]},
        {"\u2028": "\ud7ff\ue000\uffff😀\x01\x7f", "": None},
        {"__proto__": {"constructor": True}, "$ref": "'; drop table x; --", "%s": "{}"},
    ],
)
def test_what_json_can_say_is_kept(metadata: dict[str, Any], api: httpx.Client) -> None:
    address, owner = start(api, kind="game", metadata=metadata)
    assert api.get(address, headers=owner).json()["session"]["metadata"] == metadata


def test_nesting_is_kept_down_to_the_limit(api: httpx.Client) -> None:
    deep = "1"
    for _ in range(62):
        deep = f'{{"a":{deep}}}'
    answer = api.post(SESSIONS, content=f'{{"kind":"game","metadata":{deep}}}'.encode(), headers=JSON)
    assert answer.status_code == 201
    assert json.dumps(answer.json()["session"]["metadata"], separators=(",", ":")) == deep


def test_several_bad_fields_are_named_at_once(api: httpx.Client) -> None:
    answer = api.post(SESSIONS, json={"title": 1, "mode": "", "colour": "red"})
    assert fields_of(answer) == {"kind", "title", "mode", "colour"}


@pytest.mark.parametrize(
    "bad", ["1", "me", "%00", "null", "{id}", SOMEBODY.replace("-", ""), f"{{{SOMEBODY}}}", f"{SOMEBODY}0"]
)
@pytest.mark.parametrize(
    "path", ["", "/events", "/activate", "/pause", "/resume", "/end", "/claim-ownership"]
)
def test_an_id_that_is_no_uuid_is_named(bad: str, path: str, api: httpx.Client) -> None:
    method = "GET" if path in ("", "/events") else "POST"
    answer = api.request(method, f"{SESSIONS}/{bad}{path}")
    assert (problem_of(answer), fields_of(answer)) == ((422, "invalid-request"), {"id"})


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=1e1", "limit"),
        ("?limit=", "limit"),
        ("?limit=99999999999999999999", "limit"),
        ("?kind=chats", "kind"),
        ("?status=archived", "status"),
        ("?status=draft&status=active", "status"),
        ("?cursor=", "cursor"),
        ("?cursor=!!", "cursor"),
        ("?cursor=WzEsMl0", "cursor"),
        ("?cursor=bnVsbA", "cursor"),
        ("?cursor=WyJub3ciLCJ4Il0", "cursor"),
        ("?cursor=" + "W1" * 99, "cursor"),
        ("?cursor=" + "x" * 201, "cursor"),
        ("?cursor=%C3%A9", "cursor"),
        ("?owner=me", "owner"),
        ("/{id}?fields=all", "fields"),
        ("/{id}/events?after=-1", "after"),
        ("/{id}/events?after=x", "after"),
        ("/{id}/events?after=9999999999999999999", "after"),
        ("/{id}/events?limit=0", "limit"),
        ("/{id}/events?since=1", "since"),
    ],
)
def test_a_bad_query_is_named(path: str, field: str, api: httpx.Client, environment: Environment) -> None:
    answer = api.get(SESSIONS + path.replace("{id}", str(uuid4())), headers=as_service(environment))
    assert (problem_of(answer), fields_of(answer)) == ((422, "invalid-request"), {field})


@pytest.mark.parametrize("verb", ["activate", "pause", "resume", "end"])
def test_what_a_transition_does_not_read_is_refused(verb: str, api: httpx.Client) -> None:
    address, owner = start(api, kind="game")
    for content, field in [(b'{"status":"active"}', "status"), (b"[]", "body"), (b'{"a":1}', "a")]:
        answer = api.post(f"{address}/{verb}", content=content, headers=owner | JSON)
        assert (problem_of(answer), fields_of(answer)) == ((422, "invalid-request"), {field})
    broken = api.post(f"{address}/{verb}", content=b"x", headers=owner | JSON)
    assert problem_of(broken) == (400, "undecodable-body")
    answer = api.post(f"{address}/{verb}?force=1", headers=owner)
    assert (problem_of(answer), fields_of(answer)) == ((422, "invalid-request"), {"force"})
    assert api.get(address, headers=owner).json()["session"]["version"] == 1


@pytest.mark.parametrize("reason", ["", "x" * 201, 1, ["a"], "nul\0", {}])
def test_a_bad_reason_is_named(reason: object, api: httpx.Client) -> None:
    address, owner = start(api, kind="game")
    answer = api.post(f"{address}/end", json={"reason": reason}, headers=owner)
    assert (problem_of(answer), fields_of(answer)) == ((422, "invalid-request"), {"reason"})
    for content in (b"", b" ", b"{}", b'{"reason":null}'):
        address, owner = start(api, kind="game")
        assert api.post(f"{address}/end", content=content, headers=owner | JSON).status_code == 200


@pytest.mark.parametrize(
    "value", ["1", '"0"', '"-1"', 'W/"1"', '"1", "2"', "*", '"one"', '"1', '""', '"9999999999"', '"1.0"', ""]
)
def test_a_malformed_version_is_named(value: str, api: httpx.Client) -> None:
    address, owner = start(api, kind="game")
    answer = api.post(f"{address}/activate", headers={**owner, "If-Match": value})
    assert (problem_of(answer), fields_of(answer)) == ((422, "invalid-request"), {"If-Match"})


def test_a_header_given_twice_is_named(api: httpx.Client) -> None:
    address, owner = start(api, kind="game")
    twice = [*owner.items(), ("If-Match", '"1"'), ("If-Match", '"2"')]
    assert fields_of(api.post(f"{address}/activate", headers=twice)) == {"if-match"}
    twice = [("Idempotency-Key", str(uuid4()))] * 2
    assert fields_of(api.post(SESSIONS, json=GAME, headers=twice)) == {"idempotency-key"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", SESSIONS, "GET, HEAD, POST"),
        ("DELETE", f"{SESSIONS}/x", "GET, HEAD"),
        ("GET", f"{SESSIONS}/x/activate", "POST"),
    ],
)
def test_another_method_is_405_with_what_is_possible(
    method: str, path: str, allowed: str, api: httpx.Client
) -> None:
    answer = api.request(method, path)
    assert problem_of(answer) == (405, "method-not-allowed")
    assert set(answer.headers["allow"].split(", ")) == set(allowed.split(", "))
