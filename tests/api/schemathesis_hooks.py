"""Makes valid what schemathesis takes for valid, limits the size of answers, and counts the requests.

A cursor, an invite's token and a key that were used before are not just any text. The count goes into the file that
SCHEMATHESIS_COUNT names.
"""

import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import schemathesis

LARGEST_ANSWER = 1_000_000


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Change only cases that are meant to be valid."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    case.query.pop("cursor", None)
    if isinstance(case.body, dict):
        _make_valid(case.path, case.body)
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid4())
    if not re.fullmatch(r'"[1-9][0-9]{0,8}"', case.headers.get("If-Match", '"1"')):
        case.headers["If-Match"] = '"1"'  # schemathesis has ideas of its own about this header


def _make_valid(path: str, body: dict[str, Any]) -> None:
    """Keep the rules between fields, and those between callers, that a schema cannot say."""
    if path == "/api/sessions":
        if body.get("kind") == "game":  # as the service creates it
            body.update(guildId="guild", mode="mode", externalKey=str(uuid4()))
        else:
            body.pop("guildId", None)
            body.pop("state", None)
    elif path.endswith("/commands") and body.get("patch") is not None:
        body.pop("error", None)
    elif path.endswith("/join"):  # a token that was not made here is refused
        body["accessMethod"] = "direct"
        body.pop("invite", None)


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> bytes:
    """Send what was generated for an import as the one line that it is."""
    return str(value).encode(errors="replace")


@schemathesis.hook
def after_call(context: Any, case: schemathesis.Case[Any], response: Any) -> None:
    """Count the request."""
    with Path(os.environ["SCHEMATHESIS_COUNT"]).open("ab") as count:
        count.write(b".")


@schemathesis.check
def answer_is_small(context: Any, response: Any, case: schemathesis.Case[Any]) -> None:
    """No answer is larger than 1 MB."""
    size = len(response.content)
    assert size <= LARGEST_ANSWER, f"{size} bytes were answered"
