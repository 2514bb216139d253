"""Rate limits: the arguments for the database, and the headers of the answer.

The headers are those of the IETF draft "RateLimit header fields for HTTP". Limits on open sessions have no window;
limits per hour have a window of 3600 s.
"""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from api.auth.callers import Caller
from api.errors import Problem
from api.http.client_address import client_hash
from api.http.schemas import Answer
from api.settings import Settings

LARGEST_METADATA = 16 * 1024  # bytes, as Postgres writes JSON


class Limit(Answer):
    """A limit on creating, as of this creation. `window` and `reset` are in seconds."""

    name: str
    limit: int
    window: int | None
    remaining: int
    reset: int | None


def limits_argument(settings: Settings, caller: Caller, request: Request) -> dict[str, Any]:
    """The `p_limits` of lull_create_session; for the service, nothing but the size of metadata is limited."""
    sizes = {"metadata_bytes": min(LARGEST_METADATA, settings.max_state_bytes)}
    if caller.service:
        return sizes
    return {
        **sizes,
        "client_hash": client_hash(settings, request),
        "interval_minutes": settings.interval_minutes(),
        "active_per_hour": settings.active_per_hour or None,
        "bytes_per_hour": settings.metadata_bytes_per_hour or None,
        "open_drafts": settings.max_open_drafts_per_owner or None,
        "drafts_per_hour": settings.drafts_per_hour or None,
        "open_games": settings.max_open_games_per_owner or None,
    }


def limit_headers(limits: Sequence[Limit]) -> dict[str, str]:
    """The headers `RateLimit-Policy` and `RateLimit` for the limits of lull.count_creation; empty without limits."""
    if not limits:
        return {}
    return {
        "RateLimit-Policy": ", ".join(
            f'"{limit.name}";q={limit.limit}' + _unit(limit.name) + _parameter("w", limit.window)
            for limit in limits
        ),
        "RateLimit": ", ".join(
            f'"{limit.name}";r={limit.remaining}' + _parameter("t", limit.reset) for limit in limits
        ),
    }


def limited(problem: Problem) -> Problem:
    """The database's refusal with its rate-limit headers, which alone have the state of all limits."""
    limits = [Limit.model_validate(limit) for limit in problem.members.pop("limits", [])]
    if problem.members.get("retryAfter", 0) is None:
        del problem.members["retryAfter"]  # waiting does not help
    waits = {"Retry-After": str(problem.members["retryAfter"])} if "retryAfter" in problem.members else {}
    problem.headers = {**(problem.headers or {}), **waits, **limit_headers(limits)}
    return problem


def _unit(name: str) -> str:
    """What a limit counts, where that is not requests."""
    return ';qu="content-bytes"' if name.startswith("bytes-") else ""


def _parameter(name: str, value: int | None) -> str:
    return "" if value is None else f";{name}={value}"
