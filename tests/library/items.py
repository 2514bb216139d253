"""What a bot does with the library: write, read, with the version that it has read."""

from typing import Any

import httpx

from tests.callers import Headers

GUILD = "/api/library/guild:123"
HERO = f"{GUILD}/hero"
NEW = {"If-None-Match": "*"}


def match(version: int) -> Headers:
    """The header by which a write names the version that it has read."""
    return {"If-Match": f'"{version}"'}


def put(api: httpx.Client, headers: Headers, document: Any, *, at: str = HERO, version: int = 0) -> httpx.Response:
    """Write a document over this version; 0 creates."""
    return api.put(at, headers={**headers, **(match(version) if version else NEW)}, json=document)


def written(api: httpx.Client, headers: Headers, count: int, *, at: str = HERO) -> None:
    """Write an item `count` times: version n holds {"level": n}."""
    for number in range(count):
        answer = put(api, headers, {"level": number + 1}, at=at, version=number)
        assert answer.status_code == (200 if number else 201), answer.text
