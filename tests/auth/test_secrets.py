"""Who gets past the admin secret, and what the others learn."""

from typing import Any

import httpx
import pytest

from api.composition import create_app
from tests.calls import ADMIN, CLEANUP, SECRET, settings
from tests.in_process import client_of

PREVIOUS = "the-secret-before-the-rotation"


def ask(headers: list[tuple[bytes, bytes]], query: str = "", **changes: Any) -> httpx.Response:
    """Ask for a dry run of a Lull without a database: 503 not-configured is as far as one can get."""
    with client_of(create_app(settings(**changes))) as client:
        return client.get(CLEANUP + query, headers=headers)


def bearer(secret: str, scheme: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", f"{scheme} {secret}".encode())]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"Authorization", b"")],
        [(b"Authorization", b"Bearer")],
        [(b"Authorization", b"Bearer ")],
        bearer("undefined"),
        bearer("null"),
        bearer(SECRET[:-1]),
        bearer(SECRET + "x"),
        bearer(SECRET.upper()),
        bearer(SECRET, scheme="Basic"),
        bearer(SECRET, scheme="Token"),
        [(b"Authorization", SECRET.encode())],
        [(b"Authorization", b"Bearer \xff\xfe\xe9")],
        [(b"Authorization", "Bearer ünïcödé-and-long-enough".encode())],
        [*bearer(SECRET), *bearer(SECRET)],
        [(b"X-Authorization", f"Bearer {SECRET}".encode())],
        [(b"Cookie", f"authorization=Bearer {SECRET}".encode())],
    ],
)
def test_without_the_secret_the_answer_is_401_and_always_the_same(headers: list[tuple[bytes, bytes]]) -> None:
    answer = ask(headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json() == {
        "type": "urn:lull:problem:unauthorized",
        "title": "Unauthorized",
        "status": 401,
        "detail": "This needs the admin secret: Authorization: Bearer <CRON_SECRET>.",
    }


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_secret_opens_however_the_scheme_is_spelled(scheme: str) -> None:
    assert "SUPABASE_URL" in ask(bearer(SECRET, scheme)).text


@pytest.mark.parametrize(
    "value", [f"Bearer  {SECRET}", f"Bearer {SECRET} ", f" Bearer {SECRET}\t", f"Bearer \t{SECRET}"]
)
def test_blanks_around_the_secret_are_no_part_of_it(value: str) -> None:
    assert "SUPABASE_URL" in ask([(b"Authorization", value.encode())]).text


@pytest.mark.parametrize("secret", ["not-utf-8-\udcff-in-the-environment", "half-a-pair-\ud83d-of-a-document"])
def test_a_secret_that_is_no_text_is_no_fault(secret: str) -> None:
    """Bytes that are not UTF-8 reach Python as lone surrogates; others stand for no bytes, as an unset secret."""
    sent = secret.encode(errors="surrogateescape") if "\udcff" in secret else secret.encode(errors="replace")
    answer = ask([(b"Authorization", b"Bearer " + sent)], cron_secret=secret, service_secret=secret)
    assert answer.status_code == 503
    assert ("SUPABASE_URL" if "\udcff" in secret else "CRON_SECRET") in answer.json()["detail"]
    for name in ("session_token_secret", "supabase_secret_key", "supabase_jwt_secret"):
        changes: dict[str, Any] = {"supabase_url": "https://lull.test", name: secret + "x" * 20}
        with client_of(create_app(settings(**changes))) as client:
            assert client.post("/api/sessions", json={"kind": "room"}).status_code == 503
            assert client.get("/api/flags", headers={"Authorization": "Bearer e30.e30.e30"}).status_code == 401


def test_both_secrets_open_during_a_rotation() -> None:
    for secret in (SECRET, PREVIOUS):
        assert "SUPABASE_URL" in ask(bearer(secret), cron_secret_previous=PREVIOUS).text
    assert ask(bearer(PREVIOUS)).status_code == 401


def test_a_short_previous_secret_never_opens() -> None:
    assert ask(bearer("short"), cron_secret_previous="short").status_code == 401


def test_a_secret_beyond_ascii_opens() -> None:
    assert "SUPABASE_URL" in ask(bearer("ein-schön-langes-Geheimnis"), cron_secret="ein-schön-langes-Geheimnis").text


@pytest.mark.parametrize("secret", [None, "", "   ", "fifteen-letters", "fifteen-letters \n"])
@pytest.mark.parametrize("headers", [[], bearer(""), bearer("fifteen-letters"), bearer("fifteen-letters \n".strip())])
def test_without_a_proper_cron_secret_every_caller_is_refused(
    secret: str | None, headers: list[tuple[bytes, bytes]]
) -> None:
    answer = ask(headers, cron_secret=secret)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "CRON_SECRET is not set, or shorter than 16 characters."


def test_a_stranger_learns_nothing_about_parameters() -> None:
    for query in ("?policy=nonsense", "?nonsense=1", "?limit=0", "?dryRun=maybe", "?at=x&at=y"):
        answer = ask(bearer("a-wrong-secret-of-length"), query)
        assert answer.status_code == 401
        assert "nonsense" not in answer.text


def test_the_same_holds_for_post_and_its_body() -> None:
    with client_of(create_app(settings())) as client:
        assert client.post(CLEANUP, content=b"{not json").status_code == 401
        assert client.post(CLEANUP, headers=ADMIN, content=b"{not json").status_code == 422


def test_no_secret_is_ever_logged(capsys: pytest.CaptureFixture[str]) -> None:
    ask(bearer(SECRET), "?policy=x")
    ask(bearer("a-wrong-secret-of-length"))
    output = "".join(capsys.readouterr())
    assert '"route": "/api/admin/cleanup-sessions"' in output
    assert SECRET not in output
    assert "a-wrong-secret-of-length" not in output
