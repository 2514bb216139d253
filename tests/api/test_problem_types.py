"""The types of problem: those that are raised are those that are listed, each with its one status."""

import re
from pathlib import Path

from api.errors import PROBLEMS

# Refused by functions that no route calls, or never with such values.
OF_SQL_ALONE = {("422", "invalid-parameter"), ("422", "invalid-policy"), ("422", "not-adoptable")}


def test_every_type_that_is_raised_is_listed_and_every_listed_one_is_raised(checkout: Path) -> None:
    python = " ".join(file.read_text() for file in (checkout / "api").rglob("*.py"))
    in_python = set(re.findall(r'(?:Problem|_problem|__init__)\(\s*([0-9]{3}),\s*"([a-z-]+)"', python))
    in_sql = {
        refusal
        for file in (checkout / "sql").rglob("*.sql")
        # those that are raised, and those that are returned because an exception would undo what was counted
        for refusal in re.findall(r"(?:refuse\(|, )([45][0-9]{2}), '([a-z-]+)'", file.read_text())
    }
    listed = {(str(status), slug) for status, types in PROBLEMS.items() for slug in types}
    assert in_python | in_sql == listed | OF_SQL_ALONE
