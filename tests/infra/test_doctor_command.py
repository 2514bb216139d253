"""The doctor as a command: its lines, its exit codes, where its settings come from, and what it meets at a URL."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from api import __version__
from infra.doctor.command import main
from infra.doctor.release import check_vercel_cron
from infra.local.stack import LocalSupabase
from tests import policies
from tests.broken_server import broken_server, refusing_url
from tests.infra.doctor_calls import doctor

SECRET = "the-secret-of-that-deployment"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a secret for whatever URL is examined."""
    monkeypatch.setenv("LULL_HOME", str(tmp_path))
    monkeypatch.setenv("CRON_SECRET", SECRET)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "example.com"],
        ["--url", "ftp://example.com"],
        ["--url", "http://example.com"],
        ["--url", "https://example.com", "--interval", "15"],
        ["--interval", "0"],
        ["--interval", "soon"],
        ["--env-file", "nowhere.env"],
        ["--unknown"],
    ],
)
def test_a_wrong_call_is_2(arguments: list[str], nowhere: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments, os.environ)
    assert ended.value.code == 2


def test_a_url_needs_the_secret(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRON_SECRET")
    with pytest.raises(SystemExit) as ended:
        main(["--url", refusing_url()], os.environ)
    assert ended.value.code == 2


def test_each_check_is_a_line_and_the_last_line_counts(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], os.environ) == 1
    *lines, empty, summary = capsys.readouterr().out.splitlines()
    assert empty == ""
    assert all(line.split()[0] in {"ok", "warn", "fail"} for line in lines)
    [database] = [line for line in lines if line.split()[1] == "database"]
    assert database.startswith("fail  database ")
    assert database.endswith(
        "SUPABASE_URL is not set.  Fix: set SUPABASE_URL and SUPABASE_SECRET_KEY, then redeploy"
    )
    failed = [line.split()[1] for line in lines if line.startswith("fail")]
    assert summary.endswith(f" not checked, {len(failed)} to fix now: {', '.join(failed)}")


def test_the_settings_of_a_running_make_dev_are_the_default(
    nowhere: Path, stack: LocalSupabase, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"{name}={value}\n" for name, value in {**stack.environment(), **policies.ENVIRONMENT}.items())
    (nowhere / "dev.env").write_text(lines)
    report = doctor(capsys)
    assert f"settings of {nowhere / 'dev.env'}" in report.text
    assert "accepts the key" in report.says("database")
    (nowhere / "dev.env").rename(nowhere / "other.env")
    assert "database" in doctor(capsys).failed
    named = doctor(capsys, "--env-file", str(nowhere / "other.env"))
    assert "accepts the key" in named.says("database")


class _Impostor(BaseHTTPRequestHandler):
    """Answers each path as the test says: (status, headers, body)."""

    answers: ClassVar[dict[str, tuple[int, dict[str, str], Any]]] = {}

    def do_GET(self) -> None:
        status, headers, body = self.answers.get(self.path, (404, {}, {"detail": "nothing"}))
        content = json.dumps(body).encode()
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def impostor(nowhere: Path) -> Iterator[str]:
    """The URL of a server that answers what `_Impostor.answers` has."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Impostor)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


HEALTHY: Any = (200, {}, {"status": "ok", "version": __version__})


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ((307, {"Location": "https://www.example.com/"}, {}), "It redirects to https://www.example.com/."),
        ((401, {}, "Authentication Required"), "Deployment Protection"),
        ((500, {}, "FUNCTION_INVOCATION_FAILED"), "most likely Lull does not start"),
        ((200, {}, {"hello": "world"}), "is not Lull"),
    ],
)
def test_what_is_not_lull_is_told_by_what_it_answers(
    health: Any, words: str, impostor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _Impostor.answers = {"/api/health": health}
    report = doctor(capsys, "--url", impostor)
    assert report.failed == {"reach"}
    assert words in report.says("reach")
    assert "not checked: the deployment was not reached" in report.says("secrets")


def test_nothing_at_the_url_is_one_failure(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(capsys, "--url", refusing_url()).failed == {"reach"}
    with broken_server("200 with HTML") as server:
        assert doctor(capsys, "--url", server.url).failed == {"reach"}


def test_an_older_deployment_with_a_clock_of_its_own(
    impostor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"status": "ok", "version": "0.1.0"}
    _Impostor.answers = {"/api/health": (200, {"Date": "Wed, 01 Jan 2025 00:00:00 GMT"}, answer)}
    report = doctor(capsys, "--url", impostor)
    assert report.failed == {"version", "clock-here", "health", "guard", "secret"}
    assert "The deployment runs 0.1.0" in report.says("version")
    assert "behind that of this machine" in report.says("clock-here")
    assert "older than 0.2.0" in report.says("secret")


def test_a_deployment_with_another_secret_is_told_from_one_that_is_open(
    impostor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cleanup = "/api/admin/cleanup-sessions"
    refused: Any = (401, {}, {"detail": "no"})
    _Impostor.answers = {"/api/health": HEALTHY, cleanup: refused, "/api/admin/doctor": refused}
    report = doctor(capsys, "--url", impostor)
    assert report.failed == {"health", "secret"}
    assert "it has another one" in report.says("secret")
    assert SECRET not in report.text
    _Impostor.answers[cleanup] = (200, {}, {"dryRun": True})
    assert "answers 200 without the secret" in doctor(capsys, "--url", impostor).says("guard")


@pytest.mark.parametrize(
    ("crons", "interval", "status", "words"),
    [
        ([{"path": "/api/admin/cleanup-sessions", "schedule": "0 2 * * *"}], 1440, "ok", "at 0 2 * * *"),
        (
            [{"path": "/api/admin/cleanup-sessions", "schedule": "0 2 * * *"}],
            15,
            "warn",
            "every 1440 minutes",
        ),
        ([{"path": "/api/admin/cleanup-sessions", "schedule": "*/5 * * * *"}], 15, "ok", "at */5"),
        ([{"path": "/api/admin/cleanup-sessions/", "schedule": "0 2 * * *"}], None, "fail", "schedules no"),
        ([], None, "fail", "it has: nothing"),
        ("soon", None, "fail", "cannot be read"),
    ],
)
def test_the_cron_of_vercel_json_is_read(
    crons: Any, interval: int | None, status: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "vercel.json").write_text(json.dumps({"crons": crons}))
    [result] = check_vercel_cron(tmp_path, interval_minutes=interval)
    assert result.status == status
    assert words in result.message


def test_a_deployment_without_vercel_needs_no_vercel_json(tmp_path: Path) -> None:
    assert [result.status for result in check_vercel_cron(tmp_path)] == ["ok"]
