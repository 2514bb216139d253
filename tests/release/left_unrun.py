"""The last words of `make release-check`: what it could not run here, so that green does not say too much."""

import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what no machine of this kind can run, and the tests that were skipped, by reason."""
    terminalreporter.section("Left unrun")
    for line in [*never_here(), *skipped(terminalreporter.stats.get("skipped", []))]:
        terminalreporter.write_line(f"- {line}")


def never_here() -> Iterator[str]:
    """Say what needs another processor, or a hosted project."""
    if platform.machine() not in ("arm64", "aarch64"):
        yield f"the Lambda bundle on arm64: this machine is {platform.machine()}"
    yield "pg_net and Vault: only a hosted Supabase project has them"


def skipped(reports: list[pytest.TestReport]) -> Iterator[str]:
    """Say which tests were skipped, a line for each file and reason."""
    reasons = Counter(
        (Path(report.nodeid.split("::")[0]).name, str(report.longrepr[2]).removeprefix("Skipped: "))
        for report in reports
        if isinstance(report.longrepr, tuple)
    )
    for (file, reason), count in reasons.items():
        yield f"{count} of {file}: {reason}"
