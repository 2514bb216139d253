"""The doctor as an operator calls it, in this process: what failed, and what was said."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.composition import create_app
from api.doctor.check_result import CheckResult
from api.settings import Settings
from infra import migrate
from infra.doctor.command import main
from infra.doctor.deployment import checks_by_url
from infra.doctor.release import read_release
from tests.calls import CLEANUP
from tests.in_process import client_of
from tests.policies import FILE

Sql = psycopg.Connection[Any]


@dataclass(frozen=True)
class Report:
    """What a call said; the exit code is None where none was asked for."""

    results: list[CheckResult]
    exit_code: int | None = None
    text: str = field(default="", repr=False)

    @property
    def failed(self) -> set[str]:
        """The names of the checks that fail."""
        return {result.check for result in self.results if result.status == "fail"}

    def lines(self, check: str) -> list[CheckResult]:
        return [result for result in self.results if result.check == check]

    def says(self, check: str) -> str:
        """The status, message and fix of a check's lines."""
        return "\n".join(f"{each.status}: {each.message} Fix: {each.fix}" for each in self.lines(check))


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str, sql: Path = migrate.SQL) -> Report:
    """Call it with these arguments and `--json`."""
    capsys.readouterr()
    exit_code = main([*arguments, "--json"], os.environ, sql=sql)
    said = capsys.readouterr()
    results = [CheckResult.model_validate(each) for each in json.loads(said.out)]
    assert exit_code == any(result.status == "fail" for result in results)
    return Report(results, exit_code, said.out + said.err)


def by_url(settings: Settings, *, dry_runs: int = 0, policies_file: str = str(FILE)) -> Report:
    """Examine a deployment with these settings, after so many plain GETs of the cleanup."""
    secret = settings.cron_secret.get_secret_value() if settings.cron_secret else ""
    with client_of(create_app(settings)) as client:
        for _ in range(dry_runs):
            assert client.get(CLEANUP, headers={"Authorization": f"Bearer {secret}"}).json()["dryRun"]
        return Report(checks_by_url(client, secret, read_release(), policies_file))


@contextmanager
def planted(sql: Sql, fault: str, undo: str) -> Iterator[None]:
    """Let a fault be in the database while the block lasts."""
    sql.execute(fault.encode())
    try:
        yield
    finally:
        sql.execute(undo.encode())
