"""The stand-in for Storage answers what the real one does, asked by the client that Lull uses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError

from infra.local.storage import create_storage
from tests.in_process import client_of

SECRET = "a secret for tests, of 32 characters or more"
BUCKET = "files"


def key(role: str, secret: str = SECRET) -> dict[str, str]:
    token = jwt.encode({"role": role}, secret, algorithm="HS256")
    return {"apikey": token, "Authorization": f"Bearer {token}"}


@pytest.fixture
def http(tmp_path: Path) -> Iterator[httpx.Client]:
    app = Starlette(routes=[Mount("/storage/v1", create_storage(tmp_path / "storage", SECRET))])
    with client_of(app) as client:
        yield client


def client_as(http: httpx.Client, role: str, secret: str = SECRET) -> SyncStorageClient:
    return SyncStorageClient("http://lull.test/storage/v1/", key(role, secret), http_client=http)


@pytest.fixture
def storage(http: httpx.Client) -> SyncStorageClient:
    client = client_as(http, "service_role")
    client.create_bucket(BUCKET)
    return client


def status_of(error: pytest.ExceptionInfo[StorageApiError]) -> tuple[str, str]:
    return str(error.value.status), error.value.code


def test_what_was_uploaded_is_downloaded(storage: SyncStorageClient) -> None:
    body = b"\r\n--not a boundary\r\n\x00\xff" * 1000
    answer = storage.from_(BUCKET).upload("a folder/é.bin", body, {"content-type": "image/png"})
    assert answer.full_path == "files/a folder/é.bin"
    assert storage.from_(BUCKET).download("a folder/é.bin") == body
    info = storage.from_(BUCKET).info("a folder/é.bin")
    assert (info["size"], info["content_type"]) == (len(body), "image/png")


def test_an_object_is_replaced_only_when_asked_to(storage: SyncStorageClient) -> None:
    files = storage.from_(BUCKET)
    files.upload("a.txt", b"first")
    with pytest.raises(StorageApiError) as error:
        files.upload("a.txt", b"second")
    assert status_of(error) == ("409", "Duplicate")
    files.upload("a.txt", b"third", {"upsert": "true"})
    assert files.download("a.txt") == b"third"


def test_remove_answers_with_what_it_removed_and_says_nothing_of_the_rest(storage: SyncStorageClient) -> None:
    files = storage.from_(BUCKET)
    files.upload("folder/a.txt", b"a")
    assert files.remove(["folder", "folder/", "folder/b.txt"]) == []
    assert [gone["name"] for gone in files.remove(["folder/a.txt", "folder/b.txt"])] == ["folder/a.txt"]
    assert not files.exists("folder/a.txt")
    assert storage.from_("no such bucket").remove(["a.txt"]) == []


@pytest.mark.parametrize("paths", [[], ["a.txt"] * 1001], ids=["none", "1001"])
def test_remove_refuses_an_empty_and_an_oversized_list(storage: SyncStorageClient, paths: list[str]) -> None:
    with pytest.raises(StorageApiError) as error:
        storage.from_(BUCKET).remove(paths)
    assert str(error.value.status) == "400"


def test_what_is_not_there_is_a_400_that_says_404(storage: SyncStorageClient, http: httpx.Client) -> None:
    answer = http.get(f"/storage/v1/object/{BUCKET}/none.txt", headers=key("service_role"))
    assert answer.status_code == 400
    assert answer.json() == {"statusCode": "404", "error": "not_found", "message": "Object not found"}
    assert not storage.from_(BUCKET).exists("none.txt")
    with pytest.raises(StorageApiError) as error:
        storage.from_("none").exists("none.txt")
    assert status_of(error) == ("404", "Bucket not found")


def test_a_folder_lists_its_objects_and_sub_folders(storage: SyncStorageClient) -> None:
    files = storage.from_(BUCKET)
    for name in ("a/2.txt", "a/1.txt", "a/b/3.txt", "ab.txt"):
        files.upload(name, b"x")
    assert [(row["name"], row["id"] is None) for row in files.list("a")] == [
        ("1.txt", False),
        ("2.txt", False),
        ("b", True),
    ]
    assert [row["name"] for row in files.list()] == ["a", "ab.txt"]
    assert [row["name"] for row in files.list("a", {"limit": 1, "offset": 1})] == ["2.txt"]


def test_for_other_roles_than_service_role_nothing_exists(
    storage: SyncStorageClient, http: httpx.Client
) -> None:
    storage.from_(BUCKET).upload("a.txt", b"a")
    anonymous = client_as(http, "anon")
    assert anonymous.from_(BUCKET).remove(["a.txt"]) == []
    assert anonymous.from_(BUCKET).list() == []
    assert not anonymous.from_(BUCKET).exists("a.txt")
    with pytest.raises(StorageApiError) as error:
        anonymous.from_(BUCKET).upload("b.txt", b"b")
    assert status_of(error) == ("403", "Unauthorized")
    assert storage.from_(BUCKET).exists("a.txt")


def test_a_key_of_another_project_is_refused(storage: SyncStorageClient, http: httpx.Client) -> None:
    stranger = client_as(http, "service_role", "another secret, also of 32 characters")
    with pytest.raises(StorageApiError) as error:
        stranger.from_(BUCKET).list()
    assert status_of(error) == ("403", "Unauthorized")


@pytest.mark.parametrize(
    "name", ["../../outside", "..%2f..%2foutside", "/etc/outside", "x" * 900, ".", "bucket.json"]
)
def test_no_name_reaches_outside_the_bucket(
    storage: SyncStorageClient, http: httpx.Client, tmp_path: Path, name: str
) -> None:
    url = httpx.URL("http://lull.test").copy_with(raw_path=f"/storage/v1/object/{BUCKET}/{name}".encode())
    http.post(url, headers=key("service_role"), content=b"x")
    assert {path.name for path in tmp_path.iterdir()} == {"storage"}
    assert not Path("/etc/outside").exists()
    assert [bucket.name for bucket in storage.list_buckets()] == [BUCKET]


@pytest.mark.parametrize("route", ["upload/sign", "sign"])
@pytest.mark.parametrize(
    ("claims", "secret", "error"),
    [
        ({"exp": 1}, SECRET, "InvalidJWT"),
        ({}, SECRET, "InvalidJWT"),
        ({"exp": 4_000_000_000}, "another secret, also of 32 characters", "InvalidJWT"),
        ({"exp": 4_000_000_000, "url": f"{BUCKET}/other"}, SECRET, "InvalidSignature"),
    ],
    ids=["expired", "endless", "of another project", "for another object"],
)
def test_a_token_that_does_not_hold_opens_nothing(
    storage: SyncStorageClient, http: httpx.Client, route: str, claims: dict[str, Any], secret: str, error: str
) -> None:
    storage.from_(BUCKET).upload("a.txt", b"a")
    token = jwt.encode({"url": f"{BUCKET}/a.txt", "upsert": True, **claims}, secret, algorithm="HS256")
    url = f"/storage/v1/object/{route}/{BUCKET}/a.txt?token={token}"
    answer = http.put(url, content=b"b") if route == "upload/sign" else http.get(url)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert storage.from_(BUCKET).download("a.txt") == b"a"


def test_signing_needs_the_service_key(storage: SyncStorageClient, http: httpx.Client) -> None:
    storage.from_(BUCKET).upload("a.txt", b"a")
    for route, body in (("upload/sign", None), ("sign", {"expiresIn": 60})):
        for headers in ({}, key("anon")):
            url = f"/storage/v1/object/{route}/{BUCKET}/a.txt"
            assert http.post(url, headers=headers, json=body).status_code == 400


@pytest.mark.parametrize("seconds", [0, -1, "x", None])
def test_a_download_is_signed_for_a_second_or_more(
    storage: SyncStorageClient, http: httpx.Client, seconds: object
) -> None:
    storage.from_(BUCKET).upload("a.txt", b"a")
    url = f"/storage/v1/object/sign/{BUCKET}/a.txt"
    answer = http.post(url, headers=key("service_role"), json={"expiresIn": seconds})
    assert answer.json()["message"] == "body/expiresIn must be >= 1"
