"""The doctor as an operator calls it, in this process: what failed, and what was said."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.index import create_app
from api.insight.verdict import Verdict
from api.settings import Settings
from infra import migrate
from infra.doctor.command import main
from infra.doctor.deployment import checks_by_url
from infra.doctor.release import read_release
from tests.calls import CLEANUP
from tests.in_process import client_of

Sql = psycopg.Connection[Any]


@dataclass(frozen=True)
class Report:
    """What a call said; the exit code is None where none was asked for."""

    verdicts: list[Verdict]
    exit_code: int | None = None
    text: str = field(default="", repr=False)

    @property
    def failed(self) -> set[str]:
        """The names of the checks that fail."""
        return {verdict.check for verdict in self.verdicts if verdict.status == "fail"}

    def lines(self, check: str) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.check == check]

    def says(self, check: str) -> str:
        """The status, message and mend of a check's lines."""
        return "\n".join(f"{each.status}: {each.message} Mend: {each.mend}" for each in self.lines(check))


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str, sql: Path = migrate.SQL) -> Report:
    """Call it with these arguments and `--json`."""
    capsys.readouterr()
    exit_code = main([*arguments, "--json"], sql=sql)
    said = capsys.readouterr()
    verdicts = [Verdict.model_validate(each) for each in json.loads(said.out)]
    assert exit_code == any(verdict.status == "fail" for verdict in verdicts)
    return Report(verdicts, exit_code, said.out + said.err)


def by_url(settings: Settings, *, dry_runs: int = 0, policies_file: str | None = None) -> Report:
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
