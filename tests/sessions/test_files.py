"""Files over HTTP: registered, uploaded, completed, listed, downloaded, deleted; and what is refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.file_storage import FileStorage
from api.index import create_app
from tests.broken_server import refusing_url
from tests.callers import as_service, as_user, events_of, problem_of, start
from tests.calls import settings
from tests.in_process import client_of
from tests.sessions.file_calls import PNG, announce, attach, download, put, register

Sql = psycopg.Connection[Any]
Environment = dict[str, str]


def test_a_draft_has_files_before_its_first_message(early: httpx.Client) -> None:
    session, owner = start(early)
    registered = register(early, session, owner, name="Ada's photo.png")
    assert registered["file"]["state"] == "pending"
    assert put(registered).status_code == 200
    file = f"{session}/files/{registered['file']['id']}"
    completed = early.post(f"{file}/complete", headers=owner).json()["file"]
    assert (completed["state"], completed["name"], completed["size"]) == (
        "uploaded", "Ada's photo.png", len(PNG),
    )  # fmt: skip
    assert early.get(f"{session}/files", headers=owner).json()["files"] == [completed]
    assert download(early, file, owner) == PNG
    assert events_of(early, session, owner) == ["created", "file-registered", "file-uploaded"]


def test_completing_waits_for_the_bytes_and_then_is_idempotent(early: httpx.Client) -> None:
    session, owner = start(early)
    registered = register(early, session, owner)
    file = f"{session}/files/{registered['file']['id']}"
    assert problem_of(early.post(f"{file}/complete", headers=owner)) == (409, "file-not-uploaded")
    assert early.get(file, headers=owner).json()["download"] is None
    put(registered)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: early.post(f"{file}/complete", headers=owner), range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert events_of(early, session, owner).count("file-uploaded") == 1


@pytest.mark.parametrize(("body", "kind"), [(PNG + b"x", "image/png"), (PNG, "text/html")])
def test_bytes_that_were_not_announced_are_not_accepted(early: httpx.Client, body: bytes, kind: str) -> None:
    session, owner = start(early)
    registered = register(early, session, owner)
    put(registered, body, kind)
    file = f"{session}/files/{registered['file']['id']}"
    answer = early.post(f"{file}/complete", headers=owner)
    assert problem_of(answer) == (409, "file-mismatch")
    assert (answer.json()["size"], answer.json()["contentType"]) == (len(body), kind)
    assert early.get(file, headers=owner).json()["file"]["state"] == "pending"


def test_a_path_is_never_used_again(early: httpx.Client, sql: Sql) -> None:
    session, owner = start(early)
    registered = register(early, session, owner)
    put(registered)
    assert put(registered, b"something else").json()["error"] == "Duplicate"
    assert register(early, session, owner)["upload"]["url"] != registered["upload"]["url"]
    paths = [row["path"] for row in sql.execute("select id, path from lull.session_files").fetchall()]
    assert len(set(paths)) == 2
    for row in sql.execute("select id, path from lull.session_files").fetchall():
        assert row["path"] == f"{session.removeprefix('/api/')}/{row['id']}/Ada.png"


def test_a_deleted_file_is_gone_and_its_bytes_wait_for_the_upload_url(early: httpx.Client, sql: Sql) -> None:
    session, owner = start(early)
    file = attach(early, session, owner)
    assert early.delete(file, headers=owner).status_code == 204
    for request in (early.get, early.delete):
        assert problem_of(request(file, headers=owner)) == (404, "not-found")
    assert early.get(f"{session}/files", headers=owner).json()["files"] == []
    waits = "select not_before > now() + interval '2 hours' as later from lull.file_removals"
    assert [row["later"] for row in sql.execute(waits).fetchall()] == [True]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"), ({"name": "..."}, "name"), ({"name": " . "}, "name"),
        ({"name": "../../etc/passwd"}, "name"), ({"name": "..\\boot.ini"}, "name"), ({"name": "a/b"}, "name"),
        ({"name": "a\nb.png"}, "name"), ({"name": "a\x7f.png"}, "name"), ({"name": "a\x00.png"}, "name"),
        ({"name": "x" * 300}, "name"), ({"name": "gnp.\u202eexe"}, "name"), ({"name": "\ufeff"}, "name"),
        ({"name": 7}, "name"), ({"name": None}, "name"),
        ({"size": -1}, "size"), ({"size": 1.5}, "size"), ({"size": "7"}, "size"), ({"size": True}, "size"),
        ({"size": 50 * 2**20 + 1}, "size"),
        ({"contentType": "text/html"}, "contentType"), ({"contentType": "png"}, "contentType"),
        ({"contentType": "image/png; a=b"}, "contentType"), ({"path": "x"}, "path"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused_by_name(
    early: httpx.Client, sql: Sql, fields: dict[str, Any], field: str
) -> None:
    session, owner = start(early)
    answer = early.post(f"{session}/files", json=announce() | fields, headers=owner)
    assert problem_of(answer) == (422, "invalid-request")
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert sql.execute("select 1 from lull.session_files").fetchall() == []


@pytest.mark.parametrize(
    "name", ["a／b.png", "․․∕x.png", "paypаl.png", "Ünïcödé \U0001f9db\u200d♀️.png", "%2e%2e%2f.png", ".htaccess", "-rf", "日本", "a?b#c&d.png"]
)
def test_an_odd_name_is_kept_for_people_and_safe_in_the_path(
    early: httpx.Client, sql: Sql, name: str
) -> None:
    session, owner = start(early)
    file = attach(early, session, owner, name=name)
    shown = early.get(file, headers=owner).json()
    assert shown["file"]["name"] == name
    assert download(early, file, owner) == PNG
    row = sql.execute("select path from lull.session_files").fetchone()
    prefix, last = row["path"].rsplit("/", 1) if row else ("", "")
    assert prefix == file.removeprefix("/api/").replace("/files", "")
    assert last.isascii()
    assert last.replace(".", "").replace("_", "").replace("-", "").isalnum()
    assert not last.startswith((".", "-"))


def test_the_limits_are_the_settings(environment: Environment, sql: Sql) -> None:
    limits = settings(
        environment, max_file_bytes=10, max_files_per_session=1, allowed_file_types="audio/*",
        enable_early_session_creation="true",
    )  # fmt: skip
    with client_of(create_app(limits)) as api:
        session, owner = start(api)
        refused = api.post(f"{session}/files", json=announce(), headers=owner)
        assert {error["field"] for error in refused.json()["errors"]} == {"size", "contentType"}
        register(api, session, owner, size=10, contentType="Audio/OGG")
        more = api.post(f"{session}/files", json=announce(10, contentType="audio/ogg"), headers=owner)
        assert problem_of(more) == (409, "too-many-files")
        assert more.json()["limit"] == 1


def test_a_missing_bucket_is_the_operators_to_mend(environment: Environment, sql: Sql) -> None:
    missing = settings(environment, storage_bucket="none", enable_early_session_creation="true")
    with client_of(create_app(missing)) as api:
        session, owner = start(api)
        answer = api.post(f"{session}/files", json=announce(), headers=owner)
    assert problem_of(answer) == (503, "not-configured")
    assert sql.execute("select 1 from lull.session_files").fetchall() == []


def test_while_storage_is_down_nothing_is_registered_and_what_was_stays(
    environment: Environment, sql: Sql, early: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, owner = start(early)
    file = attach(early, session, owner)
    pending = register(early, session, owner)["file"]["id"]
    nowhere = settings(environment, supabase_url=refusing_url())
    monkeypatch.setattr("api.file_storage.FileStorage", lambda _: FileStorage(nowhere))
    with client_of(create_app(settings(environment))) as api:
        for answer in (
            api.post(f"{session}/files", json=announce(), headers=owner),
            api.post(f"{session}/files/{pending}/complete", headers=owner),
            api.get(file, headers=owner),
        ):
            assert problem_of(answer) == (503, "storage-unavailable")
        assert len(api.get(f"{session}/files", headers=owner).json()["files"]) == 2
        assert api.delete(file, headers=owner).status_code == 204


Ask = Callable[[httpx.Client, str, dict[str, str]], httpx.Response]
ROUTES: dict[str, Ask] = {
    "register": lambda api, file, who: api.post(file.rpartition("/")[0], json=announce(), headers=who),
    "complete": lambda api, file, who: api.post(f"{file}/complete", headers=who),
    "list": lambda api, file, who: api.get(file.rpartition("/")[0], headers=who),
    "show": lambda api, file, who: api.get(file, headers=who),
    "delete": lambda api, file, who: api.delete(file, headers=who),
}


@pytest.mark.parametrize("route", ROUTES)
def test_only_the_owner_and_the_service_get_anywhere(
    route: str, early: httpx.Client, environment: Environment
) -> None:
    session, owner = start(early, as_user(environment))
    file = attach(early, session, owner)
    absent = f"/api/sessions/{uuid4()}/files/{uuid4()}"
    for stranger in ({}, as_user(environment), {"X-Session-Token": "x" * 43}):
        theirs, nobodys = (ROUTES[route](early, which, stranger) for which in (file, absent))
        assert problem_of(theirs) == (404, "not-found")
        assert theirs.content == nobodys.content
    assert ROUTES[route](early, file, as_service(environment)).is_success
    assert problem_of(ROUTES[route](early, absent, owner)) == (404, "not-found")


def test_an_ended_session_keeps_its_files_as_they_are(early: httpx.Client) -> None:
    session, owner = start(early)
    file = attach(early, session, owner)
    early.post(f"{session}/end", headers=owner)
    for route in ("register", "delete"):
        answer = ROUTES[route](early, file, owner)
        assert problem_of(answer) == (409, "wrong-status")
        assert answer.json()["currentStatus"] == "ended"
    assert download(early, file, owner) == PNG
