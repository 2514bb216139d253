"""The request that is being answered: its id and its trace, for logs and for calls of the database.

An id is what the caller sent as `X-Request-Id`, if it is 1 to 64 of A-Z a-z 0-9 . _ -, else a new UUID. A trace is what
`traceparent` names (W3C Trace Context); one that is not well-formed is dropped.
"""

import re
from contextvars import ContextVar, Token
from dataclasses import dataclass
from uuid import uuid4

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.ASCII)


@dataclass(frozen=True)
class RequestContext:
    """The id of a request, the trace id that its logs carry, and the `traceparent` that is passed on."""

    request_id: str
    trace_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def of(cls, request_id: str | None, traceparent: str | None) -> "RequestContext":
        """The context that these headers give."""
        known = request_id if request_id is not None and _ID.fullmatch(request_id) else str(uuid4())
        parent = _PARENT.fullmatch(traceparent or "")
        if parent is None or ((traceparent or "").startswith("00") and parent[2] is not None):
            return cls(known)  # version 00 has four parts
        return cls(known, parent[1], traceparent)


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current_request() -> RequestContext | None:
    """The request that this thread or task is answering; None outside of one."""
    return _current.get()


def enter_request(context: RequestContext) -> Token[RequestContext | None]:
    """Make this the current request until `leave_request`."""
    return _current.set(context)


def leave_request(token: Token[RequestContext | None]) -> None:
    """Make the request before the current one again."""
    _current.reset(token)
