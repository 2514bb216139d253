"""`make dev`: it starts, says what to do, and stops without leaving anything behind."""

import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest
import redis

from infra.local import ports
from infra.local.postgres import embedded_binaries
from tests.callers import as_user
from tests.infra.dev_process import DevProcess, wait_until_gone
from tests.server_folder import server_folder
from tests.user_sessions.redis_server import PROGRAM, redis_server

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads processes from /proc")
SETTINGS = {
    "API_URL",
    "SUPABASE_ANON_KEY",
    "SUPABASE_URL",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_JWT_SECRET",
    "DATABASE_URL",
    "CRON_SECRET",
    "SERVICE_SECRET",
}
GIVEN_KEYS = {
    "CRON_SECRET": "a secret, given from outside",
    "SUPABASE_JWT_SECRET": "x" * 40,
    "SUPABASE_ANON_KEY": jwt.encode({"role": "anon"}, "x" * 40, algorithm="HS256"),
    "SUPABASE_SECRET_KEY": jwt.encode({"role": "service_role"}, "x" * 40, algorithm="HS256"),
}


def dry_run(settings: Mapping[str, str]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {settings['CRON_SECRET']}"}
    return httpx.get(f"{settings['API_URL']}/api/admin/cleanup-sessions", headers=headers, timeout=30)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the test's own, in memory where there is room."""
    with server_folder(tmp_path_factory, "dev") as folder:
        yield folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    """One that is ready, in a folder that an earlier release made, with settings of the environment."""
    settings = {
        "ENABLE_EARLY_SESSION_CREATION": "true",
        "MAX_FILE_BYTES": "1000",
        "ALLOWED_FILE_TYPES": "image/png",
        "MAX_OPEN_DRAFTS_PER_OWNER": "3",
        "SESSION_CLEANUP_THRESHOLD_HOURS": "48",
    }
    with server_folder(tmp_path_factory, "given") as folder:
        home = folder / "home"
        home.mkdir(mode=0o755)
        with DevProcess(home, settings | GIVEN_KEYS) as dev:
            dev.wait_ready()
            yield dev


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    """One `make dev` that the tests share that leave it running."""
    with server_folder(tmp_path_factory, "dev") as folder, DevProcess(folder / "home") as dev:
        dev.wait_ready()
        yield dev


@needs_proc
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGHUP], ids=lambda asked: asked.name)
def test_it_answers_and_a_stop_leaves_nothing_behind(folder: Path, asked: signal.Signals) -> None:
    with DevProcess(folder / "home") as dev:
        assert dry_run(dev.wait_ready()).json()["dryRun"] is True
        assert len(dev.left_behind()) >= 5  # itself, postgres, postgrest, gateway, API
        dev.send(asked)
        assert dev.exit_code() == 0, dev.output
    assert dev.left_behind() == []
    assert not (dev.home / "dev.env").exists()


def test_dev_env_has_every_setting_and_only_its_owner_reads_it(running: DevProcess) -> None:
    settings = running.wait_ready()
    assert set(settings) == SETTINGS
    assert f"NEXT_PUBLIC_SUPABASE_ANON_KEY={settings['SUPABASE_ANON_KEY']}" in running.output
    for name in ("dev.env", "secrets.json"):
        assert stat.S_IMODE((running.home / name).stat().st_mode) == 0o600


def test_it_serves_the_demo_which_may_upload_to_its_supabase(running: DevProcess) -> None:
    settings = running.wait_ready()
    assert f"{settings['API_URL']}/demo" in running.output
    answer = httpx.get(f"{settings['API_URL']}/demo", timeout=30)
    assert answer.status_code == 200
    assert f"connect-src 'self' {settings['SUPABASE_URL']};" in answer.headers["content-security-policy"]


def test_the_data_is_closed_to_other_users(given: DevProcess) -> None:
    assert stat.S_IMODE(given.home.stat().st_mode) == 0o700
    assert {path.name: oct(path.stat().st_mode) for path in given.home.iterdir() if path.stat().st_mode & 0o077} == {}


def test_a_folder_with_files_of_others_keeps_its_rights(folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o755)
    (home / "thesis.txt").touch()
    with DevProcess(home) as dev:
        dev.wait_ready()
    assert (stat.S_IMODE(home.stat().st_mode), home.stat().st_uid) == (0o755, os.geteuid())


def test_the_ports_follow_from_that_of_the_api_unless_another_one_has_them(running: DevProcess, folder: Path) -> None:
    settings = running.wait_ready()
    assert settings["SUPABASE_URL"] == f"http://{ports.HOST}:{running.port + 1}"
    assert f":{running.port + 2}/" in settings["DATABASE_URL"]
    with DevProcess(folder / "beside", port=running.port - 1) as beside:
        elsewhere = beside.wait_ready()
        assert [dry_run(each).status_code for each in (settings, elsewhere)] == [200, 200]
        assert elsewhere["SUPABASE_URL"] not in (settings["API_URL"], settings["SUPABASE_URL"])
        assert elsewhere["CRON_SECRET"] != settings["CRON_SECRET"]


def test_the_bucket_has_the_limits_of_the_settings(given: DevProcess) -> None:
    settings = given.wait_ready()
    key = settings["SUPABASE_SECRET_KEY"]
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    url = f"{settings['SUPABASE_URL']}/storage/v1/bucket/session-files"
    bucket = httpx.get(url, headers=headers, trust_env=False).json()
    assert (bucket["file_size_limit"], bucket["allowed_mime_types"], bucket["public"]) == (1000, ["image/png"], False)


def test_a_team_has_its_own_table_of_a_well_known_name(folder: Path) -> None:
    table = "create table if not exists public.fe_chat_sessions (id uuid primary key); table public.fe_chat_sessions"
    for arguments in (["--without-seed-views"], []):  # remembered at the next start
        with DevProcess(folder / "home", arguments=arguments) as dev:
            settings = dev.wait_ready()
            with psycopg.connect(settings["DATABASE_URL"]) as connection:
                connection.execute(table)
                kind = connection.execute("select relkind from pg_class where relname = 'fe_chat_sessions'").fetchone()
    assert kind == ("r",)


@needs_proc
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no capabilities to drop")
@pytest.mark.parametrize(("mode", "kept"), [(0o755, 0), (0o700, 1 << 2)], ids=["open folder", "folder of root's"])
def test_postgres_has_no_capability_of_roots_but_to_read_where_it_must(mode: int, kept: int) -> None:
    """Without any where the folders let its user in; 1 << 2 is CAP_DAC_READ_SEARCH."""
    if mode == 0o755 and not reachable(embedded_binaries()):
        pytest.skip("this checkout is in a folder that only root enters")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(mode)
        with DevProcess(Path(folder) / "home") as dev:
            dev.wait_ready()
            pid = (dev.home / "postgres" / "postmaster.pid").read_text().split()[0]
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split()[0] != "0"
    assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")] == [kept] * 3


def reachable(folder: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))


def test_a_key_that_is_not_of_the_local_supabase_is_refused_with_a_way_out(folder: Path) -> None:
    with DevProcess(folder / "home", {"SUPABASE_SECRET_KEY": "sb_secret_of_a_project"}) as dev:
        assert dev.exit_code() == 1
    assert "SUPABASE_SECRET_KEY is set, and is no key of the local Supabase" in dev.output


def test_the_printed_curl_does_a_dry_run(running: DevProcess) -> None:
    printed = re.search(r"^  (curl .*cleanup-sessions)$", running.output, re.MULTILINE)
    assert printed, running.output
    pasted = subprocess.run(["sh", "-c", printed[1]], capture_output=True, text=True, timeout=30, check=True)
    assert '"dryRun":true' in pasted.stdout


def test_a_second_start_finds_the_same_data_and_secrets(folder: Path) -> None:
    with DevProcess(folder / "home") as dev:
        first = dev.wait_ready()
        with psycopg.connect(first["DATABASE_URL"]) as connection:
            connection.execute("insert into lull.sessions (kind) values ('chat')")
    with DevProcess(folder / "home") as dev:
        second = dev.wait_ready()
        with psycopg.connect(second["DATABASE_URL"]) as connection:
            assert connection.execute("select count(*) from lull.sessions").fetchone() == (1,)
    same = SETTINGS - {"API_URL", "SUPABASE_URL", "DATABASE_URL"}
    assert {name: first[name] for name in same} == {name: second[name] for name in same}


def test_a_second_one_on_the_same_data_is_refused(running: DevProcess, folder: Path) -> None:
    with DevProcess(folder / "second", {"LULL_HOME": str(running.home)}) as second:
        assert second.exit_code() == 1
    assert "another Lull is running" in second.output
    assert dry_run(running.wait_ready()).status_code == 200


def test_a_taken_port_is_named_before_anything_is_started(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with DevProcess(folder / "home", port=port) as dev:
            assert dev.exit_code() == 1
    assert f"port {port} is taken" in dev.output
    assert "PORT=" in dev.output
    assert not dev.home.exists()


@needs_proc
@pytest.mark.parametrize("after", ["data in", "postgres 18", "gateway: ready"])
def test_a_stop_while_it_starts_leaves_nothing_behind(folder: Path, after: str) -> None:
    with DevProcess(folder / "home") as dev:
        dev.wait_for(after)
        dev.send(signal.SIGTERM)
        assert dev.exit_code() == 0, dev.output
    wait_until_gone(dev)


@needs_proc
def test_a_crashed_part_stops_the_rest_and_is_named(folder: Path) -> None:
    with DevProcess(folder / "home") as dev:
        dev.wait_ready()
        (postgrest,) = [line for line in dev.left_behind() if line.rstrip().endswith("postgrest")]
        os.kill(int(postgrest.split()[0]), signal.SIGKILL)
        assert dev.exit_code() == 1
    assert "postgrest was ended by signal 9" in dev.output
    wait_until_gone(dev)


@needs_proc
def test_after_a_kill_nothing_is_left_and_the_next_start_works(folder: Path) -> None:
    with DevProcess(folder / "home") as dev:
        dev.wait_ready()
        dev.send(signal.SIGKILL)
        dev.exit_code()
        wait_until_gone(dev)
    with DevProcess(folder / "home") as dev:
        assert dry_run(dev.wait_ready()).status_code == 200


def test_settings_of_the_environment_win(given: DevProcess) -> None:
    settings = given.wait_ready()
    assert {name: settings[name] for name in GIVEN_KEYS} == GIVEN_KEYS
    assert dry_run(settings).json()["thresholdHours"] == 48


def test_a_page_that_reloads_may_open_drafts_unless_a_limit_is_given(running: DevProcess, given: DevProcess) -> None:
    for dev, body, made in ((running, {"kind": "room"}, 12), (given, {"kind": "chat"}, 3)):
        sessions = f"{dev.wait_ready()['API_URL']}/api/sessions"
        answers = [httpx.post(sessions, json=body, timeout=30, trust_env=False) for _ in range(12)]
        drafts = [answer for answer in answers if answer.status_code == 201]
        assert [answer.json()["session"]["status"] for answer in drafts] == ["draft"] * made


def test_user_sessions_are_in_memory_unless_a_redis_is_named(running: DevProcess, folder: Path) -> None:
    assert dry_run(running.wait_ready()).json()["userSessions"]["store"] == "memory"
    if PROGRAM is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with redis_server(folder) as url, DevProcess(folder / "home", {"REDIS_URL": url}) as dev:
        settings = dev.wait_ready()
        api = f"{settings['API_URL']}/api/me/session"
        made = httpx.put(api, json={"n": 1}, headers={**as_user(dict(settings)), "If-None-Match": "*"}, timeout=30)
        assert made.status_code == 200, made.text
        with redis.Redis.from_url(url) as client:
            assert any(key.endswith(b":i") for key in client.keys("lull:*"))
        assert dry_run(settings).json()["userSessions"] == {"store": "redis", "count": 0, "more": False, "error": None}


def test_a_bad_setting_is_named(folder: Path) -> None:
    with DevProcess(folder / "home", {"SESSION_CLEANUP_THRESHOLD_HOURS": "-1"}) as dev:
        assert dev.exit_code() == 1
    assert "SESSION_CLEANUP_THRESHOLD_HOURS" in dev.output
    assert "Traceback" not in dev.output


def test_with_a_project_given_only_the_api_is_started(running: DevProcess, folder: Path) -> None:
    project = running.wait_ready()
    given = {name: project[name] for name in ("SUPABASE_URL", "SUPABASE_SECRET_KEY")}
    with DevProcess(folder / "hosted", given) as hosted:
        settings = hosted.wait_ready()
        assert dry_run(settings).status_code == 200
        assert settings["SUPABASE_URL"] == project["SUPABASE_URL"]
        assert not (hosted.home / "postgres").exists()


def test_a_project_without_its_key_is_refused(folder: Path) -> None:
    with DevProcess(folder / "home", {"SUPABASE_URL": "http://127.0.0.1:1"}) as dev:
        assert dev.exit_code() == 1
    assert "SUPABASE_SECRET_KEY" in dev.output


@needs_proc
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_it_runs_as_an_ordinary_user_too(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    # Whatever folders this checkout is in, the user gets in; the user id is what this is about.
    into_any_folder = [
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
        "--securebits=+no_setuid_fixup",
    ]
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *into_any_folder]
    with DevProcess(home, {"PYTHONDONTWRITEBYTECODE": "1"}, prefix=user) as dev:
        assert dry_run(dev.wait_ready()).status_code == 200
        assert (home / "postgres").stat().st_uid == 65534
    assert dev.left_behind() == []
