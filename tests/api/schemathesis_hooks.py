"""Makes valid what schemathesis takes for valid: a cursor and a key that were used before are not just any text."""

import re
from typing import Any
from uuid import uuid4

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Change only cases that are meant to be valid."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    case.query.pop("cursor", None)
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = str(uuid4())
    if not re.fullmatch(r'"[1-9][0-9]{0,8}"', case.headers.get("If-Match", '"1"')):
        case.headers["If-Match"] = '"1"'  # schemathesis has ideas of its own about this header
