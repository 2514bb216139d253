"""The door to Storage: what it removed, and when a file is positively absent."""

from urllib.parse import quote

import httpx
import pytest

from api.errors import StorageUnavailable
from api.file_storage import BucketMissing, FileStorage
from tests.broken_server import broken_server, refusing_url
from tests.calls import settings

BUCKET = "session-files"
ODD_PATHS = ["a/plain.txt", "b/with space.png", "c/100%41.txt", "d/ümlaut#?.pdf", "e/+plus&and=.txt"]


@pytest.fixture
def files(environment: dict[str, str]) -> FileStorage:
    return FileStorage(settings(environment))


def upload(storage: httpx.Client, path: str) -> None:
    storage.post(f"/object/{BUCKET}/{quote(path)}", content=b"bytes").raise_for_status()


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
    assert not files.is_absent(BUCKET, path)
    assert files.remove(BUCKET, [path]) == {path}
    assert files.is_absent(BUCKET, path)


def test_a_missing_bucket_is_not_an_absent_file(files: FileStorage) -> None:
    assert files.remove("no-such-bucket", ["x"]) == set()
    with pytest.raises(BucketMissing, match="no-such-bucket"):
        files.is_absent("no-such-bucket", "x")


@pytest.mark.parametrize("count", [0, 1001])
def test_remove_takes_one_to_a_thousand_paths(count: int, files: FileStorage) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        files.remove(BUCKET, ["x"] * count)


@pytest.mark.parametrize("behaviour", ["502 with HTML", "200 with HTML", "404 with HTML", "hangs up"])
def test_what_is_no_answer_of_storage_is_unavailable(behaviour: str) -> None:
    with broken_server(behaviour) as server:
        files = FileStorage(settings(supabase_url=server.url, supabase_secret_key="key"))
        with pytest.raises(StorageUnavailable):
            files.remove(BUCKET, ["x"])
        with pytest.raises(StorageUnavailable):
            files.is_absent(BUCKET, "x")


def test_a_refused_connection_is_unavailable() -> None:
    files = FileStorage(settings(supabase_url=refusing_url(), supabase_secret_key="key"))
    with pytest.raises(StorageUnavailable):
        files.remove(BUCKET, ["x"])
