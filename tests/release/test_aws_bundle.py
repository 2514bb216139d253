"""The packaged bundle: what is in it, and that it runs under AWS's own runtime client."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api import __version__
from infra.aws.package import compile_sources, write_zip
from infra.local.environment import ROOT
from tests.calls import CLEANUP, add_session, count_sessions
from tests.infra.test_lambda_entry import http_api
from tests.release.conftest import Bundle, Note
from tests.release.runtime_api import RuntimeApi, lambda_function

pytestmark = pytest.mark.timeout(300)
Sql = psycopg.Connection[Any]
AARCH64 = 183  # in an ELF header


@pytest.fixture
def function(bundle: Bundle, environment: dict[str, str], tmp_path: Path) -> Iterator[RuntimeApi]:
    """The bundle, started as Lambda starts it; nothing but it and the runtime client can be imported."""
    importable = [bundle.folder, bundle.python.runtime_client()]
    environ = {"PYTHONPATH": os.pathsep.join(map(str, importable)), "PATH": os.defpath}
    with lambda_function(
        environment,
        tmp_path / "function.log",
        task=bundle.folder,
        python=[str(bundle.python.executable), "-S"],
        environ={**environ, "AWS_LAMBDA_FUNCTION_NAME": "lull", "AWS_LAMBDA_LOG_FORMAT": "JSON"},
    ) as runtime:
        yield runtime


def error_of(function: RuntimeApi, event: object) -> dict[str, Any]:
    """What the function reported as its error to this event."""
    with pytest.raises(RuntimeError) as raised:
        function.invoke(event)
    error: dict[str, Any] = raised.value.args[0]
    return error


def test_it_answers_http_runs_the_cleanup_and_survives_a_malformed_event(
    function: RuntimeApi, sql: Sql, admin: dict[str, str], note: Note
) -> None:
    started = time.monotonic()
    answer = function.invoke(http_api("GET", "/api/health", {}))
    note(f"the bundle on AWS's runtime client: {time.monotonic() - started:.2f} s to the first answer")
    assert answer["statusCode"] == 200
    assert f'"version":"{__version__}"' in answer["body"]
    add_session(sql)
    assert '"wouldDelete":1' in function.invoke(http_api("GET", CLEANUP, admin))["body"]

    error = error_of(function, {"task": "something else"})
    assert error["errorType"] == "ValueError"
    assert "neither an HTTP event nor our schedule's" in error["errorMessage"]
    assert "unmarshal" in error_of(function, b'{"task": "clea')["errorMessage"]
    assert count_sessions(sql) == 1

    report = function.invoke({"task": "cleanup"})
    assert (report["deleted"], report["dryRun"]) == (1, False)
    assert count_sessions(sql) == 0
    assert sql.execute("select caller from lull.cleanup_runs").fetchone() == {"caller": "aws-scheduler"}


def test_a_run_that_fails_is_an_error_to_lambda(function: RuntimeApi, sql: Sql) -> None:
    add_session(sql)
    sql.execute("alter table lull.sessions rename column first_message_at to moved")
    try:
        error = error_of(function, {"task": "cleanup"})
    finally:
        sql.execute("alter table lull.sessions rename column moved to first_message_at")
    assert error["errorType"] == "Problem"
    assert "abandoned-drafts" in error["errorMessage"]


def test_it_has_what_runs_and_nothing_else(bundle: Bundle) -> None:
    names = {
        file.relative_to(bundle.folder).as_posix() for file in bundle.folder.rglob("*") if file.is_file()
    }
    sources = {name for name in names if name.startswith("infra/") and name.endswith(".py")}
    assert sources == {
        *("infra/__init__.py", "infra/aws/__init__.py"),
        *("infra/aws/events.py", "infra/aws/lambda_entry.py", "infra/aws/parameters.py"),
    }
    assert {"api/index.py", "api/cleanup/policies.toml", "mangum/__init__.py"} <= names
    tops = {name.partition("/")[0] for name in names}
    strangers = {"tests", "sql", "docs", "boto3", "botocore", "pip", "psycopg", "uvicorn", "bin"}
    assert not tops & strangers
    assert not [
        name for name in names if name.endswith((".pyi", ".c", "/RECORD", "/INSTALLER", "/direct_url.json"))
    ]
    assert any(name.startswith("fastapi-") and name.endswith("/METADATA") for name in names)


def test_its_bytecode_is_used_without_looking_at_the_sources(bundle: Bundle) -> None:
    tag = "cpython-" + bundle.python.version.replace(".", "")
    compiled = bundle.folder / f"api/__pycache__/index.{tag}.pyc"
    flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
    assert flags == 0b01  # by hash, unchecked
    for source in bundle.folder.rglob("*.py"):
        assert (source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc").exists(), source


def test_the_same_sources_and_wheels_give_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    compile_sources(tmp_path / "tree", bundle.python.executable, os.environ)
    write_zip(tmp_path / "tree", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.zip.read_bytes()


def test_the_command_builds_for_arm64_and_prints_the_sizes(tmp_path: Path, note: Note) -> None:
    output = tmp_path / "arm.zip"
    command = [sys.executable, "-m", "infra", "package-aws", "--architecture=arm64", f"--output={output}"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert built.returncode == 0, built.stderr
    assert "arm64, Python 3.13" in built.stdout
    assert "  zipped " in built.stdout
    assert "  unzipped " in built.stdout
    with zipfile.ZipFile(output) as packed:
        libraries = [name for name in packed.namelist() if name.endswith(".so")]
        machines = {int.from_bytes(packed.read(name)[18:20], "little") for name in libraries}
    assert machines == {AARCH64}
    note(built.stdout.rstrip())


def test_what_cannot_be_had_as_a_wheel_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra", "package-aws", "--python=3.7", f"--output={tmp_path / 'x.zip'}"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert built.returncode == 1
    assert "pip could not get the wheels" in built.stderr
    assert not (tmp_path / "x.zip").exists()
