"""Everything that file_storage.py asks of Storage, and the answers that it relies on.

By default the stand-in of the local stack is asked. The same suite runs against a real Storage server, hosted or
self-hosted, and must pass there too:

    SUPABASE_URL=https://abcdefgh.supabase.co SUPABASE_SECRET_KEY=sb_secret_... python -m pytest tests/storage

It creates the bucket `lull-conformance` there if need be, and removes what it puts into it. Where the hosted server
words an error differently, the stand-in is what has to change.
"""

import os
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.storage import FileStorage, StorageRefused, StoredFile
from tests.calls import settings

BUCKET = "lull-conformance"
# Read when the module is: the session's fixtures make the tests forget the developer's environment.
PROJECT = {name: os.environ.get(name, "") for name in ("SUPABASE_URL", "SUPABASE_SECRET_KEY")}
LIMITS = {"file_size_limit": 1000, "allowed_mime_types": ["image/*", "text/plain", "text/html"]}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture(scope="module")
def project(request: pytest.FixtureRequest) -> dict[str, str]:
    """The project that the environment names, else the local stack."""
    if all(PROJECT.values()):
        return PROJECT
    environment: dict[str, str] = request.getfixturevalue("running_stack").environment()
    return environment


@pytest.fixture(scope="module")
def admin_http(project: dict[str, str]) -> Iterator[httpx.Client]:
    """Storage's own routes with the secret key, and with the bucket there."""
    key = project["SUPABASE_SECRET_KEY"]
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    url = f"{project['SUPABASE_URL']}/storage/v1"
    with httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        if not client.get(f"/bucket/{BUCKET}").is_success:
            made = client.post("/bucket", json={"id": BUCKET, "name": BUCKET, "public": False})
            made.raise_for_status()
        client.put(f"/bucket/{BUCKET}", json={"public": False, **LIMITS}).raise_for_status()
        yield client


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    """Somebody without any key."""
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def files(project: dict[str, str], admin_http: httpx.Client) -> FileStorage:
    return FileStorage(settings(project))


@pytest.fixture
def path(files: FileStorage) -> Iterator[str]:
    """A path as the feature sessions makes them; the object is removed after the test."""
    path = f"sessions/{uuid4()}/{uuid4()}/Ada_s_photo.png"
    yield path
    files.remove(BUCKET, [path])


def put(browser: httpx.Client, url: str, body: bytes = PNG, kind: str = "image/png") -> httpx.Response:
    return browser.put(url, content=body, headers={"content-type": kind})


def spelled(answer: httpx.Response) -> tuple[int, str, str, str]:
    body: dict[str, Any] = answer.json()
    return answer.status_code, str(body["statusCode"]), body["error"], body["message"]


def test_a_signed_upload_needs_no_key_and_is_then_described(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    assert files.describe(BUCKET, path) is None
    answer = put(browser, files.sign_upload(BUCKET, path).url)
    assert (answer.status_code, answer.json()) == (200, {"Key": f"{BUCKET}/{path}"})
    assert files.describe(BUCKET, path) == StoredFile(len(PNG), "image/png")
    assert not files.is_absent(BUCKET, path)


def test_a_form_as_browsers_send_it_is_an_upload_too(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    form = {"": ("Ada.txt", b"hello", "text/plain;charset=UTF-8")}
    answer = browser.put(files.sign_upload(BUCKET, path).url, data={"cacheControl": "3600"}, files=form)
    assert answer.status_code == 200
    assert files.describe(BUCKET, path) == StoredFile(5, "text/plain")


def test_an_upload_url_is_good_for_two_hours(files: FileStorage, path: str) -> None:
    signed = files.sign_upload(BUCKET, path)
    left = signed.expires_at - datetime.now(UTC)
    assert timedelta(minutes=118) < left <= timedelta(hours=2, minutes=1)


def test_a_signed_upload_replaces_nothing(files: FileStorage, browser: httpx.Client, path: str) -> None:
    url = files.sign_upload(BUCKET, path).url
    put(browser, url)
    again = put(browser, url, b"something else")
    assert spelled(again) == (400, "409", "Duplicate", "The resource already exists")
    assert files.describe(BUCKET, path) == StoredFile(len(PNG), "image/png")
    with pytest.raises(StorageRefused, match="already exists"):
        files.sign_upload(BUCKET, path)


def test_a_token_is_for_one_path(files: FileStorage, browser: httpx.Client, path: str) -> None:
    url = files.sign_upload(BUCKET, path).url
    elsewhere = put(browser, url.replace("Ada_s_photo", "other"))
    assert spelled(elsewhere) == (400, "400", "InvalidSignature", "Invalid signature")
    head, _, signature = url.rpartition(".")
    forged = put(browser, f"{head}.{signature[::-1]}")
    assert spelled(forged)[:3] == (400, "400", "InvalidJWT")
    bare = put(browser, url.partition("?")[0])
    assert spelled(bare) == (400, "400", "Error", "querystring must have required property 'token'")
    assert files.describe(BUCKET, path) is None


def test_a_signed_download_needs_no_key_and_is_saved_under_its_name(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    put(browser, files.sign_upload(BUCKET, path).url)
    url = files.sign_download(BUCKET, path, name='Ada\'s "photo" & ü.png', seconds=60)
    assert url
    answer = browser.get(url)
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment;")
    assert "%C3%BC.png" in disposition
    elsewhere = browser.get(url.replace("Ada_s_photo", "other"))
    assert spelled(elsewhere) == (400, "400", "InvalidSignature", "Invalid signature")


def test_nothing_is_signed_for_a_download_that_is_not_there(files: FileStorage, path: str) -> None:
    assert files.sign_download(BUCKET, path, name="a.png", seconds=60) is None


def test_a_download_url_of_a_removed_file_finds_nothing(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    put(browser, files.sign_upload(BUCKET, path).url)
    url = files.sign_download(BUCKET, path, name="a.png", seconds=60)
    assert files.remove(BUCKET, [path]) == {path}
    assert spelled(browser.get(url or "")) == (400, "404", "not_found", "Object not found")


def test_an_upload_url_still_works_after_a_removal(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    """Why bytes are not removed before their upload URL has expired."""
    url = files.sign_upload(BUCKET, path).url
    put(browser, url)
    files.remove(BUCKET, [path])
    assert files.is_absent(BUCKET, path)
    assert put(browser, url).status_code == 200
    assert not files.is_absent(BUCKET, path)


def test_a_bucket_that_is_missing_is_told_from_a_file_that_is(files: FileStorage, path: str) -> None:
    files.find_bucket(BUCKET)
    with pytest.raises(StorageRefused, match="no-such-bucket"):
        files.find_bucket("no-such-bucket")
    with pytest.raises(StorageRefused, match="does not exist"):
        files.sign_upload("no-such-bucket", path)
    assert files.remove("no-such-bucket", [path]) == set()


def test_remove_says_what_it_removed_and_nothing_of_the_rest(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    put(browser, files.sign_upload(BUCKET, path).url)
    folder = path.rpartition("/")[0]
    assert files.remove(BUCKET, [path, folder, f"{folder}/none.png"]) == {path}
    assert files.remove(BUCKET, [path]) == set()


def test_a_move_takes_the_bytes_out_of_reach_of_the_upload_url(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    """What completing a file relies on."""
    url = files.sign_upload(BUCKET, f"uploads/{path}").url
    put(browser, url)
    files.move(BUCKET, f"uploads/{path}", path)
    assert files.describe(BUCKET, path) == StoredFile(len(PNG), "image/png")
    assert files.describe(BUCKET, f"uploads/{path}") is None
    put(browser, url, b"more")
    files.move(BUCKET, f"uploads/{path}", path)  # taken: nothing is replaced
    assert files.describe(BUCKET, path) == StoredFile(len(PNG), "image/png")
    assert files.remove(BUCKET, [f"uploads/{path}"]) == {f"uploads/{path}"}
    files.move(BUCKET, f"uploads/{path}", path)  # not there: nothing happens


def tus(url: str, body: bytes, kind: str = "image/png") -> tuple[httpx.URL, dict[str, str]]:
    """Where to begin a resumable upload with a signed URL's token, and by which headers."""
    signed = httpx.URL(url)
    name = signed.path.partition(f"/upload/sign/{BUCKET}/")[2]
    said = {"bucketName": BUCKET, "objectName": name, "contentType": kind}
    metadata = ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in said.items())
    headers = {"tus-resumable": "1.0.0", "x-signature": signed.params["token"], "upload-metadata": metadata}
    return signed.copy_with(path="/storage/v1/upload/resumable/sign", query=None), {
        **headers, "upload-length": str(len(body))
    }  # fmt: skip


def test_the_same_token_opens_a_resumable_upload_which_replaces_what_is_there(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    """Why a file that is completed must not stay where its upload URL leads."""
    url = files.sign_upload(BUCKET, path).url
    put(browser, url)
    begin, headers = tus(url, b"something else")
    made = browser.post(begin, headers=headers)
    assert made.status_code == 201
    where = made.headers["location"]
    for offset, part in ((0, b"something "), (10, b"else")):
        progress = browser.head(where, headers=headers)
        assert progress.headers["upload-offset"] == str(offset)
        content = {"upload-offset": str(offset), "content-type": "application/offset+octet-stream"}
        assert browser.patch(where, content=part, headers=headers | content).status_code == 204
    assert files.describe(BUCKET, path) == StoredFile(14, "image/png")


def test_no_resumable_upload_without_a_token_for_that_path(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    begin, headers = tus(files.sign_upload(BUCKET, path).url, PNG)
    _, elsewhere = tus(files.sign_upload(BUCKET, f"{path}.other").url, PNG)
    bare = {name: value for name, value in headers.items() if name != "x-signature"}
    for wrong in (bare, headers | {"x-signature": elsewhere["x-signature"]}):
        assert 400 <= browser.post(begin, headers=wrong).status_code < 500
    assert files.describe(BUCKET, path) is None


def test_the_limits_of_the_bucket_hold_on_every_way_in(
    files: FileStorage, browser: httpx.Client, admin_http: httpx.Client, path: str
) -> None:
    url = files.sign_upload(BUCKET, path).url
    for body, kind, code in ((b"x" * 1001, "image/png", "413"), (b"x", "application/pdf", "415")):
        begin, headers = tus(url, body, kind)
        answers = [
            put(browser, url, body, kind),
            admin_http.post(f"/object/{BUCKET}/{path}", content=body, headers={"content-type": kind}),
            browser.post(begin, headers=headers),
        ]
        for answer in answers:
            told = str(answer.status_code)
            if told == "400":
                told = str(answer.json()["statusCode"])
            assert told == code, answer.text
    assert files.describe(BUCKET, path) is None


def test_a_token_is_for_one_action(files: FileStorage, browser: httpx.Client, path: str) -> None:
    upload = files.sign_upload(BUCKET, path).url
    put(browser, upload)
    download = files.sign_download(BUCKET, path, name="a.png", seconds=60) or ""
    as_download = upload.replace("/object/upload/sign/", "/object/sign/")
    assert browser.get(as_download).status_code == 400
    files.remove(BUCKET, [path])
    as_upload = download.replace("/object/sign/", "/object/upload/sign/")
    assert put(browser, as_upload).status_code == 400
    assert files.describe(BUCKET, path) is None


def test_a_download_is_sent_in_part_or_not_at_all_and_is_no_page(
    files: FileStorage, browser: httpx.Client, path: str
) -> None:
    put(browser, files.sign_upload(BUCKET, path).url, b"<p>0123456789", "text/html")
    url = files.sign_download(BUCKET, path, name="a.html", seconds=60) or ""
    whole = browser.get(url)
    assert whole.headers["content-type"].partition(";")[0] == "text/plain"
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["x-robots-tag"] == "none"
    part = browser.get(url, headers={"range": "bytes=3-5"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"012", "bytes 3-5/13")
    assert browser.get(url, headers={"range": "bytes=-2"}).content == b"89"
    assert browser.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


def test_an_object_without_metadata_of_its_own_has_an_empty_one(
    files: FileStorage, browser: httpx.Client, admin_http: httpx.Client, path: str
) -> None:
    put(browser, files.sign_upload(BUCKET, path).url)
    assert admin_http.get(f"/object/info/{BUCKET}/{path}").json()["metadata"] == {}
