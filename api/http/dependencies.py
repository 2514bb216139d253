"""Dependencies that routes share: the caller, the raw body, `If-Match`, `Idempotency-Key`, and refusals."""

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Header, Request, Response

from api.auth.callers import Caller
from api.auth.participant_tokens import participant_of
from api.auth.secrets import require_admin, unauthorized
from api.errors import Problem, invalid_request
from api.http.bodies import parse_body, read_any_body, read_body
from api.http.idempotency import PATTERN
from api.http.parts import parts_of
from api.http.schemas import Nothing, NotNull, Session

NEVER_STORED = {"Cache-Control": "no-store"}

BODY = Depends(read_body)
Version = Annotated[
    str | None,
    NotNull(),
    Header(
        alias="If-Match",
        pattern=r'^"[1-9][0-9]{0,8}"$',
        description='Only if the session still has this version, such as `"3"`; otherwise 412.',
    ),
]
IdempotencyKey = Annotated[
    str | None,
    NotNull(),
    Header(
        alias="Idempotency-Key",
        pattern=PATTERN,
        description="Repeats the first answer for 24 hours. Without an account: a random UUID, and a secret.",
    ),
]


@dataclass(frozen=True)
class Place:
    """A session by its id, and the adopted table that it is in, if the caller named one."""

    id: UUID
    table: str | None = None

    def arguments(self, caller: Caller) -> dict[str, Any]:
        """The arguments of a SQL function that finds the session for this caller, who names the table."""
        named = {"table": self.table} if self.table else {}
        return {"p_session": str(self.id), "p_caller": {**caller.argument(), **named}}


def version_of(if_match: str | None) -> int | None:
    """The number in `If-Match`; None when the header was not sent."""
    return int(if_match.strip('"')) if if_match else None


def expected_version(if_match: str | None, if_none_match: str | None) -> str | None:
    """The version that the caller has read; None for something to create. Raises 428 without either header."""
    if if_match and if_none_match:
        raise invalid_request(("If-Match", "must not come with If-None-Match"))
    if not if_match and not if_none_match:
        raise Problem(
            428,
            "precondition-required",
            "Nothing was written. Send If-Match with the ETag that you have read, or If-None-Match: * to create.",
        )
    return if_match.strip('"') if if_match else None


def tagged(response: Response, session: Session) -> Session:
    """A session to answer with, whose version is the answer's ETag."""
    response.headers["ETag"] = f'"{session.version}"'
    return session


def never_stored(response: Response) -> None:
    """Forbid caches to store the answer."""
    response.headers.update(NEVER_STORED)


async def refuse_repetition(request: Request) -> None:
    """Refuse a query parameter or a significant header that was sent twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    names += [name for name in request.headers if name in {"if-match", "idempotency-key"}]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise invalid_request(*((name, "given more than once") for name in repeated))


async def no_query(request: Request) -> None:
    """Refuse any query."""
    if request.query_params:
        raise invalid_request(*((name, "unknown parameter") for name in request.query_params))


async def only_table(request: Request) -> None:
    """Refuse any query but `table`."""
    unknown = [name for name in request.query_params if name != "table"]
    if unknown:
        raise invalid_request(*((name, "unknown parameter") for name in unknown))


async def no_body(request: Request) -> None:
    """Refuse a body that is not empty: it would be ignored."""
    parse_body(await read_body(request), Nothing, optional=True)


def caller_with(
    *checks: Callable[[Request], Awaitable[None]], participants: bool = False, only_service: bool = False
) -> Any:
    """The caller of a request as a dependency. These checks run after the caller is authenticated.

    With `participants`, a caller may also be one of the session in the path, by an `X-Participant-Token` that was made
    for it; any other token is as none. `only_service` refuses every other caller (401) before the checks.

    They are one dependency, because FastAPI takes longer to resolve a dependency than the checks take.
    """

    async def identified(request: Request, response: Response) -> Caller:
        response.headers.update(NEVER_STORED)
        caller = await parts_of(request).callers.identify(request)
        if only_service and not caller.service:
            raise unauthorized("This needs the service secret: Authorization: Bearer <SERVICE_SECRET>.")
        for check in (refuse_repetition, *checks):
            await check(request)
        if participants and (participant := participant_of(parts_of(request).settings, request)):
            return replace(caller, participant=participant)
        return caller

    return Depends(identified)


CALLER = caller_with()  # the route validates the query by its own model
CALLER_NO_QUERY = caller_with(no_query)
CALLER_NO_BODY = caller_with(no_query, no_body)
SERVICE = caller_with(only_service=True)  # as CALLER
SERVICE_NO_QUERY = caller_with(no_query, only_service=True)
CALLER_OF_SESSION = caller_with(only_table)
CALLER_OF_SESSION_NO_BODY = caller_with(only_table, no_body)

CALLER_IN_SESSION = caller_with(only_table, participants=True)
CALLER_IN_SESSION_NO_BODY = caller_with(only_table, no_body, participants=True)


async def admin_with_body(request: Request, response: Response) -> None:
    """Admit only the admin, and refuse repeated or unknown parameters.

    The secret is checked first: without it a caller learns nothing about the query.
    """
    response.headers.update(NEVER_STORED)
    require_admin(request, parts_of(request).settings)
    await refuse_repetition(request)
    if not request.scope["route"].dependant.query_params:
        await no_query(request)


async def admin_only(request: Request, response: Response) -> None:
    """Do `admin_with_body`, and refuse a body, which the route would ignore."""
    await admin_with_body(request, response)
    if re.sub(rb"\s", b"", await read_any_body(request)) not in (b"", b"{}"):
        raise invalid_request(("body", "must be empty: parameters go into the query"))
