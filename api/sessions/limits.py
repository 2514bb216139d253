"""How much somebody may create: what the database is to count, and how the answer tells of it.

The headers are those of the IETF draft "RateLimit header fields for HTTP": a policy each for what is open
(without a window) and for each hour that is counted.
"""

import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from api.auth import Caller
from api.errors import Problem, invalid_request
from api.sessions.client_address import client_hash
from api.settings import Settings


def limits_argument(settings: Settings, caller: Caller, request: Request) -> dict[str, Any] | None:
    """The `p_limits` of lull_create_session; None for the service, which is not limited."""
    if caller.service:
        return None
    return {
        "client_hash": client_hash(settings, request),
        "open_drafts": settings.max_open_drafts_per_owner or None,
        "drafts_per_hour": settings.drafts_per_hour or None,
        "open_games": settings.max_open_games_per_owner or None,
    }


def limit_headers(limits: Sequence[dict[str, Any]]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` of limits as lull.count_creation returns them; none for none."""
    if not limits:
        return {}
    return {
        "RateLimit-Policy": ", ".join(
            f'"{limit["name"]}";q={limit["limit"]}' + _parameter("w", limit["window"]) for limit in limits
        ),
        "RateLimit": ", ".join(
            f'"{limit["name"]}";r={limit["remaining"]}' + _parameter("t", limit["reset"]) for limit in limits
        ),
    }


def limited(problem: Problem) -> Problem:
    """The database's refusal with the headers that go with it; the state of all limits travels only there."""
    limits = problem.members.pop("limits", [])
    waits = {"Retry-After": str(problem.members["retryAfter"])} if "retryAfter" in problem.members else {}
    problem.headers = {**(problem.headers or {}), **waits, **limit_headers(limits)}
    return problem


def check_size(settings: Settings, field: str, value: dict[str, Any]) -> None:
    """Refuse metadata or state that is larger than MAX_STATE_BYTES (422)."""
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    if size > settings.max_state_bytes:
        raise invalid_request((field, f"must be at most {settings.max_state_bytes} bytes as JSON"))


def _parameter(name: str, value: int | None) -> str:
    return "" if value is None else f";{name}={value}"
