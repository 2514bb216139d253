"""The query parameters of the cleanup's routes, and which of them can be combined."""

import re
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from api.cleanup.policies import USUAL_SUBJECT
from api.cleanup.report import MOST_ROWS
from api.errors import invalid_request
from api.http.schemas import NotNull, PlainDigits


def _number(value: object) -> object:
    """Only plain digits: no 1e3, no 1_000, no inf."""
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", str(value)):
        raise ValueError("must be a number")
    return value


def rfc3339(value: object) -> object:
    """Accept a time with a zone only, between the years 1970 and 9000."""
    text = str(value)
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", text, re.ASCII):
        raise ValueError("must be a time with a zone, such as 2026-01-31T12:00:00Z (write + as %2B)")
    if not "1970" <= text[:4] <= "9000":
        raise ValueError("must be between the years 1970 and 9000")
    return value


class Parameters(BaseModel):
    """The query. `at`, `thresholdHours` and `limit` simulate: they go with a dry run only."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    dry_run: Annotated[Literal["true", "false"] | None, NotNull()] = Field(
        default=None,
        description="Overrides the method. By default GET is a dry run, except for the scheduler, and POST executes.",
    )
    policy: Annotated[str | None, NotNull()] = Field(
        default=None, description=f"Default: {USUAL_SUBJECT}, else the first of the file; all of them run."
    )
    max_rows: Annotated[Annotated[int, Field(ge=1, le=MOST_ROWS), PlainDigits] | None, NotNull()] = Field(
        default=None, description="With `policy`: the breaker's limit on its rows, for this run only."
    )
    key: Annotated[Annotated[str, Field(min_length=1, max_length=1000)] | None, NotNull()] = Field(
        default=None,
        description="With `policy` and `maxRows`: delete this row only, with up to so many rows below it.",
    )
    threshold_hours: Annotated[Annotated[float, Field(ge=0.1, le=8760), BeforeValidator(_number)] | None, NotNull()] = (
        None
    )
    at: Annotated[Annotated[AwareDatetime, BeforeValidator(rfc3339)] | None, NotNull()] = None
    limit: Annotated[Annotated[int, Field(ge=1, le=200), PlainDigits] | None, NotNull()] = Field(
        default=None, description="How many sessions to show, oldest first (20)."
    )


def check_parameters(query: Parameters, names: list[str], *, dry_run: bool) -> None:
    """Refuse parameters that cannot be combined, before anything runs."""
    errors = []
    if query.policy is not None and query.policy.split(":")[0] not in names:
        errors.append(("policy", f"must be one of {', '.join(names)}"))
    if query.max_rows is not None and query.policy is None:
        errors.append(("maxRows", "goes with policy: it lets one policy through, not all"))
    if query.key is not None and (query.max_rows is None or dry_run):
        errors.append(("key", "goes with policy and maxRows in a run: it lets one row through"))
    if query.key is not None and "\0" in query.key:
        errors.append(("key", "must not contain the character NUL"))
    if not dry_run:
        simulated = {"at": query.at, "thresholdHours": query.threshold_hours, "limit": query.limit}
        errors += [(name, "goes with a dry run only") for name, value in simulated.items() if value is not None]
    if errors:
        raise invalid_request(*errors)
