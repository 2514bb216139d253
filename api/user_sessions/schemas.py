"""What the routes of a user's session are asked: headers that say what the caller has read."""

from typing import Annotated, Literal

from fastapi import Header

from api.http.schemas import NotNull

IfMatch = Annotated[
    str | None,
    NotNull(),
    Header(
        alias="If-Match",
        pattern=r'^"[0-9A-Za-z._-]{1,64}"$',
        description="Only if the session still has this version, as in `ETag`; otherwise 412.",
    ),
]
IfNoneMatch = Annotated[
    Literal["*"] | None,
    NotNull(),
    Header(alias="If-None-Match", description="`*`: only if there is no session yet; otherwise 412."),
]
