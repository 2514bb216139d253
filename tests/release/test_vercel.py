"""What Vercel makes of this repository: built by its own command, started by its own launcher."""

import base64
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import DictRow

from api import __version__
from infra.local.environment import ROOT
from infra.local.stack import LocalSupabase
from tests.calls import CLEANUP, add_drafts, add_session, count_sessions
from tests.release.pythons import find_python
from tests.release.vercel_build import PLANTED, PRIVATE, Build, build, copy_checkout, find_uv
from tests.release.vercel_function import Function, running

# the first one fetches Vercel's command and every package
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("shipped_policies")]
MEGABYTE = 2**20  # as Vercel counts
CRON = {"user-agent": "vercel-cron/1.0"}
# What the function is, what Vercel adds, and the two files that it reads.
NOT_DEPLOYED = r"__pycache__|^clients/lull\.js$|^pages/demo/"
OF_THE_FUNCTION = {"api", "_vendor", "vc__handler__python.py"}
OF_THE_BUILD = {"pyproject.toml", "requirements.txt", "uv.lock", "vercel.json"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    uv = find_uv()
    python = find_python(os.environ, uv)
    if python is None:
        pytest.skip(
            "Vercel runs Python 3.12 to 3.14, and none is here "
            "(Mac: brew install python@3.12; anywhere: uv python install 3.12)"
        )
    folder = tmp_path_factory.mktemp("vercel")
    copy_checkout(folder / "checkout")
    return build(folder / "checkout", folder / "bin", python, uv, print)


@pytest.fixture(scope="module")
def task(built: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the function as it lies on Vercel."""
    task = tmp_path_factory.mktemp("function") / "task"
    built.unpack(task)
    return task


@pytest.fixture(scope="module")
def started(
    built: Build, task: Path, running_stack: LocalSupabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, Function]]:
    if sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}:
        pytest.skip("the function is built for Linux on x86-64 or arm64, and cannot run here")
    settings = {name: value for name, value in running_stack.environment().items() if name != "DATABASE_URL"}
    log = tmp_path_factory.mktemp("launcher") / "function.log"
    with running(task, built.python, built.function, settings, log) as started:
        yield started


@pytest.fixture
def vercel(started: tuple[httpx.Client, Function], stack: LocalSupabase) -> httpx.Client:
    """A client of the running function, on empty tables."""
    return started[0]


def names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def test_there_is_one_function_and_its_entry_is_api_index(built: Build, task: Path) -> None:
    assert len(built.functions) == 1
    assert built.function["handler"] == "vc__handler__python.vc_handler"
    assert '"__VC_HANDLER_ENTRYPOINT": "api/index.py"' in (task / "vc__handler__python.py").read_text()


def test_it_may_run_for_sixty_seconds_on_python_3_12_or_newer(built: Build) -> None:
    assert built.function["maxDuration"] == 60
    version = built.function["runtime"].removeprefix("python")
    assert tuple(map(int, version.split("."))) >= (3, 12)


def test_nothing_is_published_as_a_static_file(built: Build) -> None:
    static = built.output / "static"
    assert not static.exists() or names_in(static) == []


def test_nothing_but_the_api_and_its_packages_is_in_the_function(task: Path) -> None:
    assert {path.name for path in task.iterdir()} - OF_THE_BUILD == OF_THE_FUNCTION
    expected = {name for name in names_in(ROOT / "api") if not re.search(NOT_DEPLOYED, name)}
    assert set(names_in(task / "api")) == expected


def test_no_private_file_of_a_developer_is_in_the_function(built: Build, task: Path) -> None:
    assert all((built.folder / name).is_file() for name in PRIVATE)
    inside = {Path(name).name for name in names_in(task)}
    assert inside.isdisjoint(Path(name).name for name in PRIVATE if name.startswith((".env", ".local")))
    assert not [name for name in names_in(task) if PLANTED.encode() in (task / name).read_bytes()]


def test_its_packages_are_the_pinned_ones(task: Path) -> None:
    def pins(lines: list[str]) -> set[str]:
        bare = [re.sub(r"\[.*\]|#.*|[ ;\\].*", "", line) for line in lines]
        return {line.lower().replace("_", "-") for line in bare if "==" in line}

    inside = pins([f"{found.name}=={found.version}" for found in distributions(path=[str(task / "_vendor")])])
    assert pins((ROOT / "requirements.txt").read_text().splitlines()) <= inside


def test_it_is_smaller_than_forty_megabytes_unpacked(task: Path) -> None:
    assert sum((task / name).stat().st_size for name in names_in(task)) < 40 * MEGABYTE


def test_the_cron_is_the_one_of_vercel_json_and_reaches_the_function(built: Build) -> None:
    crons = json.loads((ROOT / "vercel.json").read_text())["crons"]
    assert built.config["crons"] == crons
    assert [cron["path"] for cron in crons] == [CLEANUP]
    routes: list[dict[str, Any]] = built.config["routes"]
    rewrites = routes[routes.index({"handle": "rewrite"}) + 1 :]
    (function,) = built.functions
    for path in (CLEANUP, "/api/health", "/api/sessions/1/activate", "/admin"):
        route = next(route for route in rewrites if re.fullmatch(route["src"], path))
        assert route["dest"] == "/" + function.name.removesuffix(".func")


def test_no_route_redirects_because_a_cron_does_not_follow(built: Build) -> None:
    assert not [route for route in built.config["routes"] if 300 <= route.get("status", 0) < 400]


def test_the_running_function_says_which_version_it_is(vercel: httpx.Client) -> None:
    answer = vercel.get("/api/health")
    assert answer.status_code == 200
    assert answer.json()["version"] == __version__


def test_it_serves_the_dashboard_lull_js_and_the_expired_page_and_no_demo(vercel: httpx.Client) -> None:
    served = ("/lull.js", "/admin/main.js", "/admin", "/expired", "/lull.css")
    answers = {path: vercel.get(path) for path in (*served, "/demo")}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(served, 200) | {"/demo": 404}
    for path in served[:2]:
        assert answers[path].headers["content-type"] == "text/javascript; charset=utf-8"


def test_a_dry_run_of_it_needs_the_secret_and_counts_the_stale_drafts(
    vercel: httpx.Client, sql: psycopg.Connection[DictRow], admin: dict[str, str]
) -> None:
    add_drafts(sql, 3)
    add_session(sql, age="23 h")
    add_session(sql, status="active", age="90 d", first_message_at="2026-01-01T00:00:00Z")
    assert vercel.get(CLEANUP).status_code == 401
    answer = vercel.get(CLEANUP, headers=admin)
    assert answer.status_code == 200
    assert (answer.json()["dryRun"], answer.json()["wouldDelete"]) == (True, 3)
    assert count_sessions(sql) == 5


def test_vercels_cron_runs_the_cleanup_and_a_second_delivery_does_no_harm(
    vercel: httpx.Client, sql: psycopg.Connection[DictRow], admin: dict[str, str]
) -> None:
    add_drafts(sql, 3)
    add_session(sql, age="23 h")
    first = vercel.get(CLEANUP, headers=CRON | admin)
    assert first.status_code == 200
    assert (first.json()["dryRun"], first.json()["deleted"]) == (False, 3)
    assert count_sessions(sql) == 1
    assert vercel.get(CLEANUP, headers=CRON | admin).json()["deleted"] == 0


def test_a_stranger_who_calls_himself_vercels_cron_deletes_nothing(
    vercel: httpx.Client, sql: psycopg.Connection[DictRow]
) -> None:
    add_drafts(sql, 3)
    assert vercel.get(CLEANUP, headers=CRON).status_code == 401
    assert vercel.get(CLEANUP, headers=CRON | {"authorization": "Bearer null"}).status_code == 401
    assert count_sessions(sql) == 3


def test_its_log_reaches_vercel_as_a_json_line_of_the_request(
    started: tuple[httpx.Client, Function], vercel: httpx.Client
) -> None:
    vercel.get("/api/health", headers={"x-vercel-internal-request-id": "77"})
    log = started[1].wait_for(
        lambda said: said["type"] == "log" and said["payload"]["context"]["requestId"] == 77
    )
    line = json.loads(base64.b64decode(log["payload"]["message"]))
    assert (line["route"], line["status"]) == ("/api/health", 200)
