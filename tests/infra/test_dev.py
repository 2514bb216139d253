"""`make dev`: it starts, says what to do, and stops without leaving anything behind."""

import os
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import psycopg
import pytest

from infra.local import ports
from tests.infra.dev_process import DevProcess, wait_until_gone

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads processes from /proc")
SETTINGS = {
    "API_URL",
    "SUPABASE_URL",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_JWT_SECRET",
    "DATABASE_URL",
    "CRON_SECRET",
    "SERVICE_SECRET",
}


def dry_run(settings: Mapping[str, str]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {settings['CRON_SECRET']}"}
    return httpx.get(f"{settings['API_URL']}/api/admin/cleanup-sessions", headers=headers, timeout=30)


@needs_proc
@pytest.mark.parametrize(
    "asked", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda asked: asked.name
)
def test_it_answers_and_a_stop_leaves_nothing_behind(tmp_path: Path, asked: signal.Signals) -> None:
    with DevProcess(tmp_path / "home") as dev:
        assert dry_run(dev.wait_ready()).json()["dryRun"] is True
        assert len(dev.left_behind()) >= 5  # itself, postgres, postgrest, gateway, API
        dev.send(asked)
        assert dev.exit_code() == 0, dev.output
    assert dev.left_behind() == []
    assert not (dev.home / "dev.env").exists()


def test_dev_env_has_every_setting_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "home") as dev:
        settings = dev.wait_ready()
        assert set(settings) == SETTINGS
        for name in ("dev.env", "secrets.json"):
            assert stat.S_IMODE((dev.home / name).stat().st_mode) == 0o600


def test_the_printed_curl_does_a_dry_run(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "home") as dev:
        dev.wait_ready()
        printed = re.search(r"^  (curl .*cleanup-sessions)$", dev.output, re.MULTILINE)
        assert printed, dev.output
        pasted = subprocess.run(
            ["sh", "-c", printed[1]], capture_output=True, text=True, timeout=30, check=True
        )
    assert '"dryRun":true' in pasted.stdout


def test_a_second_start_finds_the_same_data_and_secrets(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "home") as dev:
        first = dev.wait_ready()
        with psycopg.connect(first["DATABASE_URL"]) as connection:
            connection.execute("insert into lull.sessions (kind) values ('chat')")
    with DevProcess(tmp_path / "home") as dev:
        second = dev.wait_ready()
        with psycopg.connect(second["DATABASE_URL"]) as connection:
            assert connection.execute("select count(*) from lull.sessions").fetchone() == (1,)
    same = SETTINGS - {"API_URL", "SUPABASE_URL", "DATABASE_URL"}
    assert {name: first[name] for name in same} == {name: second[name] for name in same}


def test_two_run_side_by_side(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "one") as one, DevProcess(tmp_path / "two") as two:
        settings = one.wait_ready(), two.wait_ready()
        assert [dry_run(each).status_code for each in settings] == [200, 200]
        assert settings[0]["CRON_SECRET"] != settings[1]["CRON_SECRET"]


def test_a_second_one_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "home") as first:
        settings = first.wait_ready()
        with DevProcess(tmp_path / "home") as second:
            assert second.exit_code() == 1
        assert "another Lull is running" in second.output
        assert dry_run(settings).status_code == 200


def test_a_taken_port_is_named_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with DevProcess(tmp_path / "home", port=port) as dev:
            assert dev.exit_code() == 1
    assert f"port {port} is taken" in dev.output
    assert "PORT=" in dev.output
    assert not dev.home.exists()


@needs_proc
@pytest.mark.parametrize("after", ["data in", "postgres 18", "gateway: ready"])
def test_a_stop_while_it_starts_leaves_nothing_behind(tmp_path: Path, after: str) -> None:
    with DevProcess(tmp_path / "home") as dev:
        dev.wait_for(after)
        dev.send(signal.SIGTERM)
        assert dev.exit_code() == 0, dev.output
    wait_until_gone(dev)


@needs_proc
def test_a_crashed_part_stops_the_rest_and_is_named(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "home") as dev:
        dev.wait_ready()
        (postgrest,) = [line for line in dev.left_behind() if line.rstrip().endswith("postgrest")]
        os.kill(int(postgrest.split()[0]), signal.SIGKILL)
        assert dev.exit_code() == 1
    assert "postgrest was ended by signal 9" in dev.output
    wait_until_gone(dev)


@needs_proc
def test_after_a_kill_nothing_is_left_and_the_next_start_works(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "home") as dev:
        dev.wait_ready()
        dev.send(signal.SIGKILL)
        dev.exit_code()
        wait_until_gone(dev)
    with DevProcess(tmp_path / "home") as dev:
        assert dry_run(dev.wait_ready()).status_code == 200


def test_settings_of_the_environment_win(tmp_path: Path) -> None:
    given = {"CRON_SECRET": "a secret, given from outside", "SUPABASE_JWT_SECRET": "x" * 40}
    with DevProcess(tmp_path / "home", {"SESSION_CLEANUP_THRESHOLD_HOURS": "48", **given}) as dev:
        settings = dev.wait_ready()
        assert {name: settings[name] for name in given} == given
        assert dry_run(settings).json()["thresholdHours"] == 48


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "home", {"SESSION_CLEANUP_THRESHOLD_HOURS": "-1"}) as dev:
        assert dev.exit_code() == 1
    assert "SESSION_CLEANUP_THRESHOLD_HOURS" in dev.output
    assert "Traceback" not in dev.output


def test_with_a_project_given_only_the_api_is_started(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "local") as local:
        project = local.wait_ready()
        given = {name: project[name] for name in ("SUPABASE_URL", "SUPABASE_SECRET_KEY")}
        with DevProcess(tmp_path / "hosted", given) as hosted:
            settings = hosted.wait_ready()
            assert dry_run(settings).status_code == 200
            assert settings["SUPABASE_URL"] == project["SUPABASE_URL"]
            assert not (hosted.home / "postgres").exists()


def test_a_project_without_its_key_is_refused(tmp_path: Path) -> None:
    with DevProcess(tmp_path / "home", {"SUPABASE_URL": "http://127.0.0.1:1"}) as dev:
        assert dev.exit_code() == 1
    assert "SUPABASE_SECRET_KEY" in dev.output


@needs_proc
@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_it_runs_as_an_ordinary_user_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
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
