"""Files of the library: announced, uploaded, completed, downloaded, brought back; and what is refused."""

import hashlib
from typing import Any

import httpx
import psycopg
import pytest

from tests.callers import Headers, problem_of
from tests.calls import CLEANUP
from tests.library.items import GUILD, NEW, match, put
from tests.sessions.file_calls import PNG
from tests.sessions.file_calls import put as upload

Sql = psycopg.Connection[Any]
SHEET = f"{GUILD}/sheet"
OTHER = PNG + b"!"


def announce(api: httpx.Client, headers: Headers, condition: Headers, body: bytes = PNG, **more: Any) -> httpx.Response:
    """Register bytes as the item's next version."""
    said = {"name": "sheet.png", "size": len(body), "contentType": "image/png", **more}
    said = {"sha256": hashlib.sha256(body).hexdigest(), **said}
    return api.put(f"{SHEET}/file", headers={**headers, **condition}, json=said)


def store(api: httpx.Client, headers: Headers, condition: Headers, body: bytes = PNG) -> dict[str, Any]:
    """Register, upload and complete; the item."""
    registered = announce(api, headers, condition, body).json()
    assert upload(registered, body).status_code == 200
    done = api.post(f"{SHEET}/file/{registered['item']['file']['id']}/complete", headers=headers)
    assert done.status_code == 200, done.text
    item: dict[str, Any] = done.json()["item"]
    return item


def bytes_of(api: httpx.Client, headers: Headers, **query: Any) -> bytes:
    """Download by the signed URL."""
    url = api.get(f"{SHEET}/file", headers=headers, params=query).json()["download"]["url"]
    return httpx.get(url, trust_env=False).raise_for_status().content


def test_a_file_is_a_version_once_its_bytes_are_there(api: httpx.Client, service: Headers) -> None:
    registered = announce(api, service, NEW)
    assert registered.status_code == 200, registered.text
    file = f"{SHEET}/file/{registered.json()['item']['file']['id']}"
    assert problem_of(api.get(SHEET, headers=service)) == (404, "not-found")
    assert problem_of(api.post(f"{file}/complete", headers=service)) == (409, "file-not-uploaded")
    upload(registered.json())
    for _ in range(2):
        done = api.post(f"{file}/complete", headers=service)
        assert (done.status_code, done.headers["etag"], done.json()["item"]["file"]["state"]) == (200, '"1"', "uploaded")
    item = api.get(SHEET, headers=service).json()["item"]
    assert (item["document"], item["size"], item["file"]["sha256"]) == (None, len(PNG), hashlib.sha256(PNG).hexdigest())
    assert bytes_of(api, service) == PNG
    same = announce(api, service, match(1)).json()
    assert (same["upload"], same["item"]["version"]) == (None, 1), "the current version is this file already"


def test_versions_are_files_and_documents_and_both_come_back(api: httpx.Client, service: Headers) -> None:
    store(api, service, NEW)
    store(api, service, match(1), OTHER)
    put(api, service, {"lost": "my sheet"}, at=SHEET, version=2)
    assert problem_of(api.get(f"{SHEET}/file", headers=service)) == (404, "not-found")
    assert bytes_of(api, service, version=1) == PNG
    back = api.post(f"{SHEET}/versions/1/restore", headers=service).json()["item"]
    assert (back["version"], back["restoredFrom"], back["document"]) == (4, 1, None)
    assert bytes_of(api, service) == PNG
    assert bytes_of(api, service, version=2) == OTHER
    api.delete(SHEET, headers=service)
    assert problem_of(api.get(f"{SHEET}/file", headers=service)) == (410, "item-deleted")
    api.post(f"{SHEET}/undelete", headers=service)
    assert bytes_of(api, service) == PNG


def test_a_file_that_another_write_overtook_is_told_so(api: httpx.Client, service: Headers) -> None:
    store(api, service, NEW)
    registered = announce(api, service, match(1), OTHER).json()
    upload(registered, OTHER)
    put(api, service, {"faster": True}, at=SHEET, version=1)
    late = api.post(f"{SHEET}/file/{registered['item']['file']['id']}/complete", headers=service)
    assert (problem_of(late), late.json()["version"]) == ((412, "version-mismatch"), 2)
    assert api.get(SHEET, headers=service).json()["item"]["document"] == {"faster": True}


def test_bytes_that_were_not_announced_are_not_accepted(api: httpx.Client, service: Headers) -> None:
    registered = announce(api, service, NEW).json()
    upload(registered, OTHER)
    done = api.post(f"{SHEET}/file/{registered['item']['file']['id']}/complete", headers=service)
    assert (problem_of(done), done.json()["size"]) == ((409, "file-mismatch"), len(OTHER))
    assert problem_of(api.get(SHEET, headers=service)) == (404, "not-found")


@pytest.mark.parametrize(
    "wrong", [{"size": 2**40}, {"contentType": "text/html"}, {"sha256": "00"}, {"name": "a/b"}, {"path": "x"}]
)
def test_a_file_that_is_not_allowed_is_refused(wrong: dict[str, Any], api: httpx.Client, service: Headers) -> None:
    assert problem_of(announce(api, service, NEW, **wrong)) == (422, "invalid-request")
    assert problem_of(announce(api, service, {})) == (428, "precondition-required")


def test_the_cleanup_removes_the_bytes_of_a_deleted_item_and_of_no_other(
    api: httpx.Client, service: Headers, admin: Headers, sql: Sql, storage: httpx.Client
) -> None:
    kept = "/api/library/guild:123/kept"
    store(api, service, NEW)
    path = sql.execute("select path from lull.library_versions").fetchone()
    sql.execute("update lull.library_versions set upload_expires_at = now() - interval '1 hour'")
    put(api, service, {}, at=kept)
    api.delete(SHEET, headers=service)

    def is_stored() -> bool:
        assert path is not None
        return storage.get(f"/object/info/session-files/{path['path']}").status_code == 200

    api.post(CLEANUP, headers=admin)
    assert is_stored(), "it can be undeleted"
    sql.execute("update lull.library_items set deleted_at = now() - interval '8 days' where deleted_at is not null")
    api.post(CLEANUP, headers=admin)
    assert not is_stored()
    assert api.get(kept, headers=service).status_code == 200
