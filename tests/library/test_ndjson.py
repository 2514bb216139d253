"""Export and import as NDJSON: what goes out comes in, again and again, a line's fault is that line's."""

import json
from typing import Any

import httpx

from tests.callers import Headers, problem_of
from tests.library.items import GUILD, NEW, put, written

LINES = {"Accept": "application/x-ndjson"}
COPY = "/api/library/app:copy"


def exported(api: httpx.Client, headers: Headers, address: str) -> list[bytes]:
    """Every page of an export, as `Link` leads."""
    pages = []
    while address:
        answer = api.get(address, headers={**headers, **LINES})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        pages.append(answer.content)
        link = answer.headers.get("link", "")
        assert not link or link.endswith('; rel="next"')
        address = link.partition(">")[0].lstrip("<")
    return pages


def brought(api: httpx.Client, headers: Headers, body: bytes, at: str = COPY, **query: str) -> list[dict[str, Any]]:
    """Import lines; the answers."""
    kind = {"Content-Type": "application/x-ndjson"}
    answer = api.post(at, headers={**headers, **kind}, content=body, params=query)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.content.splitlines()]


def outcomes(lines: list[dict[str, Any]]) -> list[str]:
    return [line["outcome"] for line in lines]


def test_an_export_by_pages_comes_in_elsewhere_and_again_changes_nothing(api: httpx.Client, service: Headers) -> None:
    for number in range(5):
        put(api, service, {"n": number, "é": "\u2028"}, at=f"{GUILD}/k{number} &é")
    written(api, service, 2)
    put(api, service, {}, at=f"{GUILD}/gone")
    api.delete(f"{GUILD}/gone", headers=service)
    pages = exported(api, service, f"{GUILD}?limit=4")
    assert [page.count(b"\n") for page in pages] == [4, 2]
    for page, outcome in ((pages[0], "created"), (pages[1], "created"), (pages[0], "unchanged")):
        assert set(outcomes(brought(api, service, page))) == {outcome}
    copies = exported(api, service, COPY)
    assert len(copies) == 1
    first, again = ([json.loads(line) for line in lines.splitlines()] for lines in (b"".join(pages), copies[0]))
    assert [(line["key"], line["document"]) for line in again] == [(line["key"], line["document"]) for line in first]


def test_an_item_that_differs_stays_unless_the_caller_says_replace(api: httpx.Client, service: Headers) -> None:
    written(api, service, 2)
    line = b'{"key": "hero", "document": {"level": 1}}\n'
    assert brought(api, service, line, GUILD) == [{"line": 1, "key": "hero", "outcome": "kept", "version": 2}]
    assert outcomes(brought(api, service, line, GUILD, existing="replace")) == ["written"]
    assert outcomes(brought(api, service, line, GUILD, existing="replace")) == ["unchanged"]
    api.delete(f"{GUILD}/hero", headers=service)
    assert brought(api, service, line, GUILD)[0] == {"line": 1, "key": "hero", "outcome": "created", "version": 4}


def test_a_fault_of_a_line_is_its_answer_and_the_others_are_written(api: httpx.Client, service: Headers) -> None:
    large = json.dumps({"key": "large", "document": {"x": "y" * 256 * 1024}}).encode()
    body = b"\n".join(
        [
            b'{"key": "b", "document": {}}',
            b"no json",
            b"",
            b'{"key": "a/b", "document": {}}',
            b'{"key": "b", "document": {"twice": 1}}',
            b'{"key": "c", "document": {"a": 1, "a": 2}}',
            b'{"key": "d"}',
            large,
            b'{"key": "f", "file": {"name": "f", "contentType": "image/png", "size": 1, "sha256": "00"}}',
            b'{"key": "a", "version": 7, "writtenAt": "2026-01-01T00:00:00Z", "document": {"x": 1}}',
        ]
    )
    answers = brought(api, service, body)
    assert [(each["line"], each["outcome"]) for each in answers] == [
        (1, "created"), (2, "invalid"), (4, "invalid"), (5, "invalid"), (6, "invalid"), (7, "invalid"),
        (8, "too-large"), (9, "bytes-missing"), (10, "created"),
    ]  # fmt: skip
    assert "line 1" in answers[3]["detail"]
    assert [item["key"] for item in api.get(COPY, headers=service).json()["items"]] == ["a", "b"]


def test_an_import_that_is_too_much_at_once_is_refused(api: httpx.Client, service: Headers) -> None:
    kind = {**service, "Content-Type": "application/x-ndjson"}
    lines = b"".join(b'{"key": "k%d", "document": {}}\n' % number for number in range(501))
    assert problem_of(api.post(COPY, headers=kind, content=lines)) == (422, "invalid-request")
    assert outcomes(brought(api, service, lines[: lines.index(b'{"key": "k500"')])) == ["created"] * 500
    assert problem_of(api.post(COPY, headers=kind, content=b" " * (4 * 1024 * 1024 + 1))) == (422, "invalid-request")
    wrong = {**service, "Content-Type": "text/plain"}
    assert problem_of(api.post(COPY, headers=wrong, content=b"{}")) == (415, "unsupported-media-type")
    assert brought(api, service, b"") == []


def test_an_export_of_another_users_or_of_nothing(
    api: httpx.Client, service: Headers, ada: tuple[str, Headers]
) -> None:
    user, own = ada
    place = f"/api/library/user:{user}"
    api.put(f"{place}/a", headers={**own, **NEW}, json={})
    assert exported(api, own, place)[0].count(b"\n") == 1
    assert problem_of(api.get(GUILD, headers={**own, **LINES})) == (404, "not-found")
    assert exported(api, service, GUILD) == [b""]
    deleted = api.get(f"{GUILD}?deleted=true", headers={**service, **LINES})
    assert problem_of(deleted) == (422, "invalid-request")
