"""How values travel: times, numbers, names, bodies."""

import json
from typing import Annotated, Any

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st
from pydantic import Field

from api.errors import Problem, problem_response
from api.http.bodies import DEEPEST, parse_body
from api.http.schemas import Answer, PlainDigits, Question, utc


class Anything(Question):
    """A body with room for any value."""

    some_value: Any = None


class Page(Question):
    """A query."""

    limit: Annotated[int, Field(ge=1), PlainDigits] = 1


def refusal(body: bytes) -> Problem:
    with pytest.raises(Problem) as problem:
        parse_body(body, Anything)
    return problem.value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("2026-11-20T10:00:00+00:00", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10:00:00.123456+05:30", "2026-11-20T04:30:00.123456Z"),
        ("infinity", "infinity"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        (None, None),
    ],
)
def test_times_are_utc_and_what_is_none_stays(given: object, said: object) -> None:
    assert utc(given) == said


def test_names_are_camel_case_outside_and_snake_case_inside() -> None:
    class Shown(Answer):
        first_message_at: str

    assert Shown.model_validate({"first_message_at": "now"}).model_dump(by_alias=True) == {
        "firstMessageAt": "now"
    }
    assert parse_body(b'{"someValue": 7}', Anything).some_value == 7
    assert refusal(b'{"some_value": 7}').members["errors"][0]["field"] == "some_value"


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", "1_000", "٣", " 1", "0x1", "9" * 19])
def test_a_number_is_plain_digits(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number"):
        Page.model_validate({"limit": text})


def test_no_body_is_an_empty_object_only_where_it_may_be() -> None:
    assert parse_body(b" \n", Anything, optional=True) == Anything()
    assert refusal(b" \n").members["errors"] == [
        {"field": "body", "message": "must be a JSON object, and is empty"}
    ]


def test_nesting_is_allowed_down_to_the_limit() -> None:
    def nested(levels: int) -> bytes:
        return b'{"someValue":' + b"[" * levels + b"]" * levels + b"}"

    parse_body(nested(DEEPEST), Anything)
    assert refusal(nested(DEEPEST + 1)).members["errors"][0]["field"] == "someValue"


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(min_codepoint=0)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@generated(st.one_of(st.binary(), JSON.map(dumps), JSON.map(lambda value: dumps({"someValue": value}))))
def test_any_bytes_are_understood_or_refused_and_never_break(body: bytes) -> None:
    try:
        value = parse_body(body, Anything).some_value
    except Problem as problem:
        assert problem_response(problem).status_code in {400, 422}
    else:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        assert "\\u0000" not in text
        assert text.encode().decode() == text
