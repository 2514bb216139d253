"""Words and numbers of the reports."""

from typing import Any

import pytest

from api.cleanup.answers import FinishedRun
from api.cleanup.policies import load_policies
from api.cleanup.report import age_in_words, run_report
from api.errors import Problem
from tests.calls import settings


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (42.9, "42 s"),
        (59.999, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (25 * 3600 + 3 * 60 + 59, "25 h 3 min"),
        (48 * 3600 - 1, "47 h 59 min"),
        (48 * 3600, "2 d 0 h"),
        (76 * 3600, "3 d 4 h"),
        (400 * 86400, "400 d 0 h"),
    ],
)
def test_an_age_is_said_in_the_two_units_that_matter(seconds: float, words: str) -> None:
    assert age_in_words(seconds) == words


def stopped(**line: Any) -> str:
    """What is said of a run whose one policy was stopped."""
    usual = {
        "policy": "abandoned-drafts", "target": "lull.sessions", "cutoff": "2026-01-01T00:00:00Z", "would": 60_000,
        "capped": False, "did": 0, "cascaded": 0, "files": 0, "batches": 0, "ms": 1, "outcome": "stopped",
        "stop_reason": "60000 rows would go and the limit is 50000", "error": None, "skipped_rows": [],
        "busy": 0, "has_more": True,
    }  # fmt: skip
    files = {"removed": 0, "failed": 0, "queued": 0, "dead": 0, "error": None}
    run = {"run_id": "r", "at": "2026-01-02T00:00:00Z", "duration_ms": 1, "files": files}
    with pytest.raises(Problem) as caught:
        run_report(FinishedRun.model_validate({**run, "policies": [{**usual, **line}]}), load_policies(settings()), "abandoned-drafts")
    assert (caught.value.status, caught.value.slug) == (409, "cleanup-stopped")
    return caught.value.detail


def test_a_stop_names_the_number_that_lets_the_rows_through() -> None:
    assert stopped().endswith("?policy=abandoned-drafts&maxRows=60000")


def test_a_stop_by_more_rows_than_are_counted_names_the_most_that_can_be_let_through() -> None:
    said = stopped(would=1_000_000, capped=True, stop_reason="more than 1000000 rows would go")
    assert "?policy=abandoned-drafts&maxRows=10000000 " in said
    assert said.endswith("the most that one run may take)")


def test_a_stop_after_the_allowance_was_used_up_asks_for_another_look() -> None:
    said = stopped(did=60_000, stop_reason="60000 rows were taken, which is its limit, and more became stale")
    assert "60000 rows were deleted before" in said
    assert "maxRows" not in said
    assert said.endswith("Read the dry run, then run it again")
