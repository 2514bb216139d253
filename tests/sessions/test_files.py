"""Files over HTTP: registered, uploaded, completed, listed, downloaded, deleted; and what is refused."""

from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.composition import create_app
from api.storage import FileStorage
from tests.broken_server import refusing_url
from tests.callers import as_service, as_user, events_of, problem_of, start
from tests.calls import ADMIN, CLEANUP, settings
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


@pytest.mark.parametrize(("body", "kind"), [(PNG + b"x", "image/png"), (PNG, "text/plain")])
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
    assert [row["later"] for row in sql.execute(waits).fetchall()] == [True, True]  # its path, and its upload path


def resumable(registered: dict[str, Any], body: bytes, kind: str = "image/png") -> httpx.Response:
    """Upload by TUS with the token of the signed URL, as any client can that has it."""
    url = httpx.URL(registered["upload"]["url"])
    bucket, _, name = url.path.partition("/upload/sign/")[2].partition("/")
    said = {"bucketName": bucket, "objectName": name, "contentType": kind}
    metadata = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in said.items())
    headers = {"tus-resumable": "1.0.0", "x-signature": url.params["token"]}
    create = headers | {"upload-length": str(len(body)), "upload-metadata": metadata}
    with httpx.Client(trust_env=False) as client:
        made = client.post(url.copy_with(path="/storage/v1/upload/resumable/sign", query=None), headers=create)
        if made.status_code != 201:
            return made
        part = headers | {"upload-offset": "0", "content-type": "application/offset+octet-stream"}
        return client.patch(made.headers["location"], content=body, headers=part)


def test_what_is_completed_cannot_be_replaced_or_read_by_the_upload_url(early: httpx.Client) -> None:
    session, owner = start(early)
    registered = register(early, session, owner)
    assert resumable(registered, b"first" * 100).status_code == 204
    assert resumable(registered, PNG).status_code == 204, "not completed: the client may begin anew"
    file = f"{session}/files/{registered['file']['id']}"
    assert early.post(f"{file}/complete", headers=owner).status_code == 200
    assert resumable(registered, b"evil" * 251).status_code == 204, "Storage takes it, and it reaches no file"
    put(registered, b"evil")
    assert download(early, file, owner) == PNG
    assert early.post(f"{file}/complete", headers=owner).status_code == 200
    assert download(early, file, owner) == PNG
    link = registered["upload"]["url"].replace("/object/upload/sign/", "/object/sign/")
    assert httpx.get(link, trust_env=False).status_code == 400


def test_what_is_uploaded_after_the_completion_is_removed_when_the_url_has_expired(
    early: httpx.Client, sql: Sql, storage: httpx.Client
) -> None:
    session, owner = start(early)
    registered = register(early, session, owner)
    put(registered)
    file = f"{session}/files/{registered['file']['id']}"
    early.post(f"{file}/complete", headers=owner)
    put(registered, b"more")
    (row,) = sql.execute("select bucket, path from lull.file_removals").fetchall()
    assert storage.get(f"/object/{row['bucket']}/{row['path']}").content == b"more"
    sql.execute("update lull.file_removals set not_before = now() - interval '1 second'")
    assert early.post(CLEANUP, headers=ADMIN).json()["files"]["removed"] == 1
    assert storage.get(f"/object/{row['bucket']}/{row['path']}").status_code == 400
    assert download(early, file, owner) == PNG


def test_bytes_are_refused_by_storage_itself_beyond_the_limits_of_the_bucket(early: httpx.Client) -> None:
    session, owner = start(early)
    registered = register(early, session, owner)
    for way in (put, resumable):
        assert way(registered, PNG, "text/html").json()["statusCode"] == "415"


def test_registering_and_deleting_leaves_no_more_upload_urls_than_files(environment: Environment, sql: Sql) -> None:
    limits = settings(environment, max_files_per_session=2, enable_early_session_creation="true")
    with client_of(create_app(limits)) as api:
        session, owner = start(api)
        for _ in range(2):
            file = register(api, session, owner)["file"]["id"]
            assert api.delete(f"{session}/files/{file}", headers=owner).status_code == 204
        refused = api.post(f"{session}/files", json=announce(), headers=owner)
        assert problem_of(refused) == (409, "too-many-files")
        sql.execute("update lull.file_removals set not_before = now() where file_id = %s", [file])
        register(api, session, owner)


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


def test_a_missing_bucket_is_503_that_names_it(environment: Environment, sql: Sql) -> None:
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
    monkeypatch.setattr("api.storage.FileStorage", lambda _: FileStorage(nowhere))
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
