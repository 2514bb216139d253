"""The types of problem: those that are raised are those that are listed."""

import re
from pathlib import Path

from api.errors import TYPES

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
