"""Which types of problem the API answered with while the tests ran: a run of all tests must see each.

The tests may be spread over processes (pytest-xdist): each tells its own at its end, and the one that gathers them
fails the run when a type is missing.
"""

import json
from typing import Any

import httpx
import pytest

from api.errors import TYPES

SEEN: set[str] = set()


def record(response: httpx.Response) -> httpx.Response:
    """Remember the type of a problem."""
    if response.headers.get("content-type") == "application/problem+json" and response.read():
        SEEN.add(json.loads(response.read())["type"].removeprefix("urn:lull:problem:"))
    return response


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of the run has seen."""
    SEEN.update(getattr(node, "workeroutput", {}).get("problem_types", []))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tell what this process has seen, or fail a run of all tests that has not seen everything."""
    config = session.config
    told = getattr(config, "workeroutput", None)
    if told is not None:
        told["problem_types"] = sorted(SEEN)
        return
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    missing = TYPES.keys() - SEEN
    if everything and exitstatus == pytest.ExitCode.OK and missing:
        config.get_terminal_writer().line(f"\nNo test saw a problem of type {', '.join(sorted(missing))}.")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
