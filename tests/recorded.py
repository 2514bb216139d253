"""Which types of problem the API answered with while the tests ran."""

import json

import httpx

TYPES: set[str] = set()


def record(response: httpx.Response) -> httpx.Response:
    """Remember the type of a problem."""
    if response.headers.get("content-type") == "application/problem+json":
        TYPES.add(json.loads(response.read())["type"].removeprefix("urn:lull:problem:"))
    return response
