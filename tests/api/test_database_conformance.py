"""One suite over both transports: values, answers and refusals are the same through PostgREST and directly."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from api.database import Database
from api.errors import DatabaseUnavailable, Problem
from api.settings import Settings
from tests.transports import call

MakeSettings = Callable[..., Settings]

UNICODE = 'Ada "Löve" \\ \n\t🜁 %s %(x)s {} $1 -- \';'
NESTED = {"text": UNICODE, "nested": [{"null": None}, [], {}]}  # its names in the order that jsonb keeps


@pytest.mark.parametrize(
    ("name", "given", "seen"),
    [
        ("uuid", "7c0e1b0a-52f4-4f0c-9a0e-3c1d5c1f0a11", "7c0e1b0a-52f4-4f0c-9a0e-3c1d5c1f0a11"),
        ("text", UNICODE, UNICODE),
        ("text", "", ""),
        ("text", 5, "5"),
        ("text", {"a": 1}, '{"a":1}'),
        ("integer", -7, -7),
        ("integer", "42", 42),
        ("bigint", 2**63 - 1, 2**63 - 1),
        ("boolean", True, True),
        ("boolean", False, False),
        ("bigints", [1, -2, 2**40], "{1,-2,1099511627776}"),
        ("bigints", [], "{}"),
        ("texts", ["a", None, 'b,"c'], '{a,NULL,"b,\\"c"}'),
        ("time", "2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00+00:00"),
        ("bytes", "\\x00ff10", "00ff10"),
        ("numeric", 1.50, 1.5),
        ("numeric", 10**30, 10**30),
        ("float", 0.1, 0.1),
        ("jsonb", NESTED, NESTED),
        ("jsonb", [], []),
        ("jsonb", [{"a": 1}, 2], [{"a": 1}, 2]),
        ("jsonb", "a text", "a text"),
        ("jsonb", 12345678901234567890.0, 12345678901234567000),
        ("jsonb", False, False),
        ("jsonb", None, None),
        ("integer", None, None),
        ("default", None, None),
    ],
)
def test_a_value_of_each_type_arrives_and_comes_back(
    database: Database, name: str, given: object, seen: object
) -> None:
    answer = database.call("probe_types", {f"p_{name}": given}, timeout_seconds=10)
    assert repr(answer[name]) == repr(seen)
    assert answer["default"] == (None if name == "default" else "as it comes")


@pytest.mark.parametrize(
    "answer",
    [
        '{"n": [1, 1.0, 1.50, 1e3, 1e-7, 123456789012345678901234567890, -0.0, 0.1]}',
        '{"b": 1, "a": {"é": "\\u00e9"}}',
        "{}",
    ],
)
def test_an_answer_is_the_same_whichever_way(settings_for: MakeSettings, answer: str) -> None:
    ways = [Database(settings_for(transport)) for transport in ("postgrest", "direct")]
    given = [call(database, "probe_answer", p_json=answer) for database in ways]
    assert repr(given[0]) == repr(given[1])
    assert given[0] == json.loads(answer)


@pytest.mark.parametrize("answer", ["[]", '"text"', "1", "null", None])
def test_what_is_no_object_is_no_answer(database: Database, answer: str | None) -> None:
    with pytest.raises(DatabaseUnavailable):
        call(database, "probe_answer", p_json=answer)


SENTENCE = 'No: "Löve" is 100 % \\ $1.'  # on one line: PostgREST puts it into the status line, too
LIMIT = '{"limit": "ö", "retryAfter": 5}'


@pytest.mark.parametrize(
    ("code", "detail", "hint", "status", "slug", "members"),
    [
        ("PT409", "lease-lost", "", 409, "lease-lost", {}),
        ("PT429", "rate-limited", LIMIT, 429, "rate-limited", {"limit": "ö", "retryAfter": 5}),
        ("PT404", "Not A Slug", "no JSON", 404, "refused", {}),
        ("PT503", "not-configured", "", 503, "not-configured", {}),
        ("42501", "", "", 503, "database-refused", {}),
        ("55P03", "", "", 503, "database-unavailable", {}),
        ("40P01", "", "", 503, "database-unavailable", {}),
        ("57014", "", "", 503, "database-timeout", {}),
        ("42883", "", "", 500, "internal-error", {}),
        ("P0001", "lease-lost", LIMIT, 500, "internal-error", {}),
        ("23505", "", "", 500, "internal-error", {}),
    ],
)
def test_an_error_means_the_same(
    database: Database, code: str, detail: str, hint: str, status: int, slug: str, members: dict[str, Any]
) -> None:
    with pytest.raises(Problem) as caught:
        call(database, "probe_error", p_code=code, p_message=SENTENCE, p_detail=detail, p_hint=hint)
    problem = caught.value
    assert (problem.status, problem.slug, problem.members) == (status, slug, members)
    assert (problem.detail == SENTENCE) == code.startswith("PT")
    assert call(database, "probe_answer", p_json="{}") == {}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("lull_of_next_year", {}),
        ("probe_error", {"p_code": "PT404"}),
        ("probe_answer", {}),
        ("probe_answer", {"p_json": "{}", "p_of_next_year": 1}),
        ('probe"; select 1; --', {}),
    ],
)
def test_a_function_that_does_not_take_these_arguments_asks_for_the_migration(
    database: Database, function: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(Problem, match="infra migrate") as caught:
        call(database, function, **arguments)
    assert (caught.value.status, caught.value.slug) == (503, "not-migrated")


@pytest.mark.parametrize(
    ("name", "unfit"), [("uuid", "no uuid"), ("integer", 2**40), ("text", "\0"), ("text", "\ud800")]
)
def test_a_value_that_does_not_fit_is_a_500_and_the_next_call_works(
    database: Database, name: str, unfit: object
) -> None:
    with pytest.raises(Problem) as caught:
        database.call("probe_types", {f"p_{name}": unfit}, timeout_seconds=10)
    assert (caught.value.status, caught.value.slug) == (500, "internal-error")
    assert call(database, "probe_types", p_integer=1)["integer"] == 1


def test_a_function_that_only_reads_can_do_nothing_else(database: Database) -> None:
    assert call(database, "probe_read") == {"read only": "on"}
    assert call(database, "probe_write")["read only"] == "off"
