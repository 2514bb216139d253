"""Sorts last: what the whole suite saw of the problems that the API can answer with."""

import re
from pathlib import Path

import pytest

from api.errors import TYPES
from tests.recorded import TYPES as RECORDED

# Refused by functions that no route calls, or never with such values.
OF_SQL_ALONE = {"invalid-parameter", "invalid-policy", "not-adoptable"}


def test_every_type_that_is_raised_is_listed_and_every_listed_one_is_raised(checkout: Path) -> None:
    python = " ".join(file.read_text() for file in (checkout / "api").rglob("*.py"))
    in_python = set(re.findall(r'(?:Problem|_problem|__init__)\(\s*[0-9]{3},\s*"([a-z-]+)"', python))
    in_sql = {
        slug
        for file in (checkout / "sql").rglob("*.sql")
        for slug in re.findall(r"refuse\([0-9]{3}, '([a-z-]+)'", file.read_text())
    }
    assert in_python | in_sql == TYPES.keys() | OF_SQL_ALONE


def test_every_type_was_answered_while_the_tests_ran(request: pytest.FixtureRequest) -> None:
    config = request.config
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.option.keyword:
        pytest.skip("only a run of all tests sees all problems")
    assert TYPES.keys() == RECORDED
