"""The door to Storage: what it removed, when a file is positively absent, and what it refuses."""

import time
from urllib.parse import quote

import httpx
import jwt
import pytest

from api.doctor.check_storage import check_bucket
from api.errors import StorageUnavailable
from api.storage import FileStorage, StorageKeyRefused, StorageRefused
from infra.local.stack import LocalSupabase
from tests.broken_server import broken_server, refusing_url
from tests.calls import settings

BUCKET = "session-files"
ODD_PATHS = [
    "a/plain.txt",
    "b/with space.png",
    "c/100%41.txt",
    "d/ümlaut#?.pdf",
    "e/+plus&and=.txt",
    "root_%",
]
NOWHERE = ["../x", "..", ".", "a/../../bucket/x", "a/./b", "a\nb", "a?b", "a#b", "%2e%2e/x"]
NO_BUCKETS = ["", ".", "..", "a/b", "../bucket/x", "a\nb", "a\\b", "%2e%2e", "ü", "x" * 101]


@pytest.fixture
def files(environment: dict[str, str]) -> FileStorage:
    return FileStorage(settings(environment))


def files_at(url: str) -> FileStorage:
    return FileStorage(settings(supabase_url=url, supabase_secret_key="key"))


def upload(storage: httpx.Client, path: str) -> None:
    kind = {"content-type": "text/plain"}
    storage.post(f"/object/{BUCKET}/{quote(path)}", content=b"bytes", headers=kind).raise_for_status()


def test_remove_says_what_it_removed(files: FileStorage, storage: httpx.Client) -> None:
    for path in ("x/one", "x/two"):
        upload(storage, path)
    assert files.remove(BUCKET, ["x/one", "x/two", "x/never"]) == {"x/one", "x/two"}
    assert files.remove(BUCKET, ["x/one"]) == set()


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_file_is_present_and_then_absent_whatever_its_name(
    path: str, files: FileStorage, storage: httpx.Client
) -> None:
    upload(storage, path)
    upload(storage, path + "-and-more")
    assert not files.is_absent(BUCKET, path)
    assert files.remove(BUCKET, [path]) == {path}
    assert files.is_absent(BUCKET, path)


def test_a_folder_of_that_name_is_no_file(files: FileStorage, storage: httpx.Client) -> None:
    upload(storage, "folder/name/file")
    assert files.is_absent(BUCKET, "folder/name")


@pytest.mark.parametrize("path", NOWHERE)
def test_no_path_becomes_part_of_an_address(path: str) -> None:
    with broken_server("200 with a list") as server:
        assert files_at(server.url).is_absent(BUCKET, path)
        assert files_at(server.url).remove(BUCKET, [path]) == set()
        assert server.requests == [f"/storage/v1/object/list/{BUCKET}", f"/storage/v1/object/{BUCKET}"]


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "a\\b/c", "a\\b"])
def test_of_a_path_that_a_listing_cannot_name_nothing_is_said(path: str, files: FileStorage) -> None:
    with pytest.raises(StorageRefused, match="cannot be listed"):
        files.is_absent(BUCKET, path)


@pytest.mark.parametrize("bucket", NO_BUCKETS)
def test_what_can_be_no_bucket_is_refused_and_never_asked_for(bucket: str) -> None:
    with broken_server("200 with a list") as server:
        files = files_at(server.url)
        with pytest.raises(StorageRefused, match="can be no bucket"):
            files.find_bucket(bucket)
        with pytest.raises(StorageRefused):
            files.remove(bucket, ["x"])
        with pytest.raises(StorageRefused):
            files.is_absent(bucket, "x")
        assert server.requests == []


def test_a_missing_bucket_is_refused(files: FileStorage) -> None:
    files.find_bucket(BUCKET)
    assert files.remove("no-such-bucket", ["x"]) == set()
    with pytest.raises(StorageRefused, match='the bucket "no-such-bucket" does not exist'):
        files.find_bucket("no-such-bucket")


@pytest.mark.parametrize("count", [0, 1001])
def test_remove_takes_one_to_a_thousand_paths(count: int, files: FileStorage) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        files.remove(BUCKET, ["x"] * count)


@pytest.mark.parametrize(
    "behaviour",
    ["502 with HTML", "200 with HTML", "404 with HTML", "hangs up", "refuses with 429", "refuses with 503"],
)
def test_what_is_no_answer_of_storage_is_unavailable(behaviour: str) -> None:
    with broken_server(behaviour) as server:
        files = files_at(server.url)
        with pytest.raises(StorageUnavailable):
            files.find_bucket(BUCKET)
        with pytest.raises(StorageUnavailable):
            files.remove(BUCKET, ["x"])
        with pytest.raises(StorageUnavailable):
            files.is_absent(BUCKET, "x")


def test_an_answer_of_another_shape_is_unavailable() -> None:
    with broken_server("200 with a list of numbers") as server:
        with pytest.raises(StorageUnavailable):
            files_at(server.url).remove(BUCKET, ["x"])
        with pytest.raises(StorageUnavailable):
            files_at(server.url).is_absent(BUCKET, "x")


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_is_about_what_was_asked_and_says_why(status: int) -> None:
    with broken_server(f"refuses with {status}") as server:
        files = files_at(server.url)
        with pytest.raises(StorageRefused, match="No, because"):
            files.remove(BUCKET, ["x"])
        with pytest.raises(StorageRefused, match="No, because"):
            files.is_absent(BUCKET, "x")


def test_a_key_that_is_refused_is_told_from_an_outage_and_from_a_missing_bucket(
    environment: dict[str, str], running_stack: LocalSupabase
) -> None:
    of_another_project = jwt.encode({"role": "service_role"}, "x" * 32, algorithm="HS256")
    for key in (running_stack.credentials.key("anon"), of_another_project, "sb_publishable_x", "nonsense"):
        files = FileStorage(settings(environment, supabase_secret_key=key))
        with pytest.raises(StorageKeyRefused):
            files.find_bucket(BUCKET)
        with pytest.raises(StorageKeyRefused):
            files.sign_upload(BUCKET, "a/b.txt")
        (found,) = check_bucket(settings(environment, supabase_secret_key=key), files)
        assert found.status == "fail"
        assert "SUPABASE_SECRET_KEY" in found.message
    with broken_server("refuses with 403") as server, pytest.raises(StorageKeyRefused):
        files_at(server.url).find_bucket(BUCKET)


@pytest.mark.parametrize(
    ("largest", "types", "words"),
    [
        (None, ("text/plain",), ["files of any size", "file_size_limit = 52428800"]),
        (10, (), ["files of any type", "allowed_mime_types = '{image/png,"]),
    ],
)
def test_a_bucket_without_limits_fails_with_the_statement_that_sets_them(
    environment: dict[str, str], stack: LocalSupabase, largest: int | None, types: tuple[str, ...], words: list[str]
) -> None:
    stack.ensure_bucket("unlimited", largest_file=largest, types=types)
    chosen = settings(environment, storage_bucket="unlimited")
    found = check_bucket(chosen, FileStorage(chosen))
    assert found[0].status == "fail"
    assert words[0] in found[0].message
    assert words[1] in (found[0].fix or "")


def test_a_call_takes_no_longer_than_it_may() -> None:
    with broken_server("hangs") as server:
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            files_at(server.url).remove(BUCKET, ["x"], timeout_seconds=0.2)
        assert time.monotonic() - started < 3


def test_a_refused_connection_is_unavailable() -> None:
    with pytest.raises(StorageUnavailable):
        files_at(refusing_url()).remove(BUCKET, ["x"])
