"""Parts of the OpenAPI document: security schemes, headers, bodies, errors.

The schemes are documentation only: api/auth/ authenticates. CALLER_SECURITY documents a route's schemes without
declaring them to FastAPI, which would evaluate them at each request.
"""

from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import Depends
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel

from api.errors import ProblemBody

ADMIN_SCHEME = Depends(HTTPBearer(auto_error=False, scheme_name="adminSecret"))
CALLER_SCHEMES = [
    Depends(HTTPBearer(auto_error=False, scheme_name="accessTokenOrServiceSecret")),
    Depends(APIKeyHeader(name="X-Session-Token", auto_error=False, scheme_name="sessionToken")),
    Depends(APIKeyHeader(name="X-Participant-Token", auto_error=False, scheme_name="participantToken")),
]
CALLER_SECURITY: dict[str, Any] = {"security": [{"accessTokenOrServiceSecret": []}, {"sessionToken": []}]}
PARTICIPANT_SECURITY: dict[str, Any] = {"security": [*CALLER_SECURITY["security"], {"participantToken": []}]}

TAG = {"ETag": {"description": "The version, for `If-Match`.", "schema": {"type": "string"}}}
RATE_LIMITS = {
    name: {"description": f"{what} (draft-ietf-httpapi-ratelimit-headers).", "schema": {"type": "string"}}
    for name, what in {
        "RateLimit-Policy": "The limits on creating",
        "RateLimit": "The remaining quota of each limit",
    }.items()
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds until the next attempt.", "schema": {"type": "integer"}}}


def location_of(thing: str) -> dict[str, Any]:
    """The `Location` header of a route that creates this."""
    return {"Location": {"description": f"The {thing}'s address.", "schema": {"type": "string"}}}


def documented(*statuses: int, headers: dict[int, dict[str, Any]] | None = None) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route: these errors as problems, with these headers."""
    content = {"application/problem+json": {"schema": _problem_schema()}}
    more = {status: {"headers": described} for status, described in (headers or {}).items()}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content, **more.get(status, {})}
        for status in statuses
    }


@cache
def _problem_schema() -> dict[str, Any]:
    return ProblemBody.model_json_schema()


def body_of(
    model: type[BaseModel], *, required: bool, security: dict[str, Any] = CALLER_SECURITY
) -> dict[str, Any]:
    """The `openapi_extra` of a caller's route that parses its body itself."""
    content = {"application/json": {"schema": _inlined(model.model_json_schema())}}
    return {"requestBody": {"required": required, "content": content}, **security}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A model's schema with its inner models in place: the document has no place for `$defs`."""
    defined = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inline(defined[part["$ref"].rpartition("/")[2]])
        return {name: inline(value) for name, value in part.items()}

    return {name: inline(value) for name, value in schema.items()}


READS: dict[str, Any] = {
    "responses": documented(401, 404, 409, 410, 422, 500, 503),
    "openapi_extra": CALLER_SECURITY,
}
TRANSITION: dict[str, Any] = {
    "responses": {200: {"headers": TAG}, **documented(400, 401, 404, 409, 410, 412, 415, 422, 500, 503)},
    "openapi_extra": CALLER_SECURITY,
}
