"""The door to Postgres: calls through PostgREST, and every way to find no database behind it."""

import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from api.composition import create_app
from api.database import Database
from api.errors import DatabaseUnavailable, Problem
from tests.broken_server import broken_server, refusing_url
from tests.calls import ADMIN, CLEANUP, settings
from tests.certificates import certificate
from tests.in_process import client_of

BEHAVIOURS = [
    "502 with HTML",
    "200 with HTML",
    "200 with a list",
    "200 with nothing",
    "hangs up",
    "redirects",
]


def database_at(url: str) -> Database:
    return Database(settings(supabase_url=url, supabase_secret_key="key"))


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_what_is_no_answer_of_a_database_is_unavailable_and_asked_once(behaviour: str) -> None:
    with broken_server(behaviour) as server:
        with pytest.raises(DatabaseUnavailable):
            database_at(server.url).call("lull_anything", {}, timeout_seconds=5)
        assert server.requests == ["/rest/v1/rpc/lull_anything"]


def test_a_hanging_database_is_unavailable_after_the_time_out_of_the_call() -> None:
    with broken_server("hangs") as server:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            database_at(server.url).call("lull_anything", {}, timeout_seconds=0.2)
        assert time.monotonic() - started < 3


def test_a_refused_connection_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable):
        database_at(refusing_url()).call("lull_anything", {}, timeout_seconds=5)


def test_a_proxy_of_the_environment_is_asked_and_told_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with broken_server("502 with HTML") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://ada:se%2Fcret@"))
        with pytest.raises(DatabaseUnavailable):
            database_at("https://a-project.test").call("lull_anything", {}, timeout_seconds=5)
    assert proxy.requests == ["a-project.test:443"]
    assert proxy.headers[0]["proxy-authorization"] == f"Basic {b64encode(b'ada:se/cret').decode()}"


def test_an_untrusted_certificate_is_sent_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, _ = certificate(tmp_path, "localhost")
    with broken_server("200 with a list", tls) as server:
        database = database_at(f"https://localhost:{server.server_address[1]}")
        with pytest.raises(DatabaseUnavailable):
            database.call("lull_anything", {}, timeout_seconds=5)
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "localhost.pem"))
        with pytest.raises(DatabaseUnavailable):
            database_at(f"https://localhost:{server.server_address[1]}").call("lull_anything", {}, timeout_seconds=5)
        assert server.requests == ["/rest/v1/rpc/lull_anything"]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_api_answers_503_and_shows_no_internals(behaviour: str, method: str) -> None:
    with broken_server(behaviour) as server:
        app = create_app(settings(supabase_url=server.url, supabase_secret_key="key"))
        with client_of(app) as client:
            answer = client.request(method, CLEANUP, headers=ADMIN)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:lull:problem:database-unavailable"
    assert "127.0.0.1" not in answer.text
    assert "html" not in answer.text


@pytest.mark.parametrize("missing", ["SUPABASE_URL", "SUPABASE_SECRET_KEY"])
def test_a_missing_setting_is_named(missing: str) -> None:
    given: dict[str, Any] = {"supabase_url": "http://127.0.0.1", "supabase_secret_key": "key"} | {
        missing.lower(): None
    }
    with pytest.raises(Problem, match=f"^{missing} is not set") as caught:
        Database(settings(**given)).call("lull_anything", {}, timeout_seconds=5)
    assert (caught.value.status, caught.value.slug) == (503, "not-configured")


@pytest.mark.parametrize("key", ["schlüssel", "sb_secret_a b", "sb_secret_a\nb", "sb\x00secret", "\n"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_key_that_no_header_can_carry_is_named(method: str, key: str) -> None:
    app = create_app(settings(supabase_url="http://127.0.0.1:1", supabase_secret_key=key))
    with client_of(app) as client:
        answer = client.request(method, CLEANUP, headers=ADMIN)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:lull:problem:not-configured")
    assert answer.json()["detail"].startswith("SUPABASE_SECRET_KEY ")
    assert key not in answer.json()["detail"].split("\n")


def test_a_key_pasted_with_a_line_end_works(environment: dict[str, str]) -> None:
    key = environment["SUPABASE_SECRET_KEY"] + "\n"
    database = Database(settings(environment, supabase_secret_key=key))
    assert database.call("lull_preview_cleanup", {"p_policies": []}, timeout_seconds=5)["policies"] == []


def test_a_function_that_is_not_there_asks_for_the_migration(environment: dict[str, str]) -> None:
    with pytest.raises(Problem, match="infra migrate") as caught:
        Database(settings(environment)).call("lull_of_next_year", {}, timeout_seconds=5)
    assert (caught.value.status, caught.value.slug) == (503, "not-migrated")


def test_a_wrong_key_is_a_503_that_names_the_variable(environment: dict[str, str]) -> None:
    database = Database(settings(environment, supabase_secret_key="not-a-key"))
    with pytest.raises(Problem, match="SUPABASE_SECRET_KEY") as caught:
        database.call("lull_preview_cleanup", {"p_policies": []}, timeout_seconds=5)
    assert (caught.value.status, caught.value.slug) == (503, "database-refused")


def test_a_refusal_of_ours_keeps_its_status_slug_and_sentence(environment: dict[str, str]) -> None:
    arguments = {"p_run": "0" * 32, "p_token": "0" * 32, "p_policy": "purge"}
    with pytest.raises(Problem, match="does not hold the lease") as caught:
        Database(settings(environment)).call("lull_open_policy", arguments, timeout_seconds=5)
    assert (caught.value.status, caught.value.slug) == (409, "lease-lost")


def test_threads_share_one_door(environment: dict[str, str]) -> None:
    database = Database(settings(environment))

    def preview(_: int) -> dict[str, object]:
        return database.call("lull_preview_cleanup", {"p_policies": []}, timeout_seconds=10)

    with ThreadPoolExecutor(8) as threads:
        assert all(answer["policies"] == [] for answer in threads.map(preview, range(32)))
