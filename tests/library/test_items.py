"""Documents of the library by namespace and key: who may, with which version, and what becomes of old ones."""

from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.callers import Headers, as_user, problem_of
from tests.calls import CLEANUP, settings
from tests.in_process import client_of
from tests.library.items import GUILD, HERO, NEW, match, put, written

Sql = psycopg.Connection[Any]


def test_a_document_is_created_read_and_changed_with_its_version(api: httpx.Client, service: Headers) -> None:
    assert problem_of(api.get(HERO, headers=service)) == (404, "not-found")
    created = put(api, service, {"name": "Élodie", "hp": [1, None]})
    assert (created.status_code, created.headers["etag"], created.headers["location"]) == (201, '"1"', HERO)
    read = api.get(HERO, headers=service)
    assert (read.json(), read.headers["etag"]) == (created.json(), '"1"')
    assert read.headers["cache-control"] == "no-store"
    item = read.json()["item"]
    assert (item["document"], item["file"], item["version"]) == ({"name": "Élodie", "hp": [1, None]}, None, 1)
    changed = put(api, service, {"hp": []}, version=1)
    assert (changed.status_code, changed.headers["etag"], "location" in changed.headers) == (200, '"2"', False)
    same = put(api, service, {"hp": []}, version=2)
    assert (same.status_code, same.headers["etag"]) == (200, '"2"'), "an equal document writes nothing"
    assert same.json() == changed.json()


def test_a_write_says_which_version_it_is_meant_for(api: httpx.Client, service: Headers) -> None:
    assert problem_of(api.put(HERO, headers=service, json={})) == (428, "precondition-required")
    assert problem_of(put(api, service, {}, version=1)) == (412, "version-mismatch")
    both = api.put(HERO, headers={**service, **NEW, **match(1)}, json={})
    assert problem_of(both) == (422, "invalid-request")
    assert api.get(HERO, headers=service).status_code == 404
    written(api, service, 2)
    for refused in (put(api, service, {}), put(api, service, {}, version=1)):
        assert (problem_of(refused), refused.json()["version"]) == ((412, "version-mismatch"), 2)
    assert api.get(HERO, headers=service).json()["item"]["document"] == {"level": 2}


def test_a_guild_is_the_services_and_a_users_namespace_that_users_too(
    api: httpx.Client, service: Headers, ada: tuple[str, Headers], environment: dict[str, str]
) -> None:
    user, own = ada
    place = f"/api/library/user:{user}/hero"
    assert put(api, own, {"mine": 1}, at=place).status_code == 201
    assert put(api, service, {"mine": 2}, at=place, version=1).status_code == 200
    assert put(api, service, {}).status_code == 201
    bob = as_user(environment)
    for headers, address in ((bob, place), (bob, HERO), (own, HERO), (own, "/api/library/app:x/hero")):
        assert problem_of(api.get(address, headers=headers)) == (404, "not-found")
        assert problem_of(put(api, headers, {}, at=address)) == (404, "not-found")
        assert problem_of(api.delete(address, headers=headers)) == (404, "not-found")
        assert problem_of(api.get(address.rpartition("/")[0], headers=headers)) == (404, "not-found")
    for nobody in ({}, {"X-Session-Token": "x"}):
        assert problem_of(api.get(place, headers=nobody)) == (401, "unauthorized")


@pytest.mark.parametrize("key", ["a" * 200, "Gandalf the Grey", "Élodie", "a?b#c%d&e", "1", "import", "file"])
def test_a_key_is_what_its_owner_calls_the_item(key: str, api: httpx.Client, service: Headers) -> None:
    created = put(api, service, {"k": key}, at=f"{GUILD}/{quote(key)}")
    assert created.status_code == 201
    shown = api.get(created.headers["location"], headers=service).json()["item"]
    assert (shown["key"], shown["document"]) == (key, {"k": key})


@pytest.mark.parametrize(
    "address",
    [f"{GUILD}/{'a' * 201}", f"{GUILD}/a%5Cb", f"{GUILD}/a%0Ab", f"{GUILD}/%2e%2e", "/api/library/nowhere/a",
     "/api/library/user:7/a", "/api/library/guild:/a"],
)  # fmt: skip
def test_a_key_or_namespace_that_cannot_be_is_refused(address: str, api: httpx.Client, service: Headers) -> None:
    assert put(api, service, {}, at=address).status_code in {404, 422}


def test_a_document_has_at_most_256_kib_as_it_is_sent_and_as_postgres_writes_it(
    api: httpx.Client, service: Headers
) -> None:
    assert put(api, service, {"d": "x" * (256 * 1024 - 9)}).json()["item"]["size"] == 256 * 1024
    for body in (b'{"d": "' + b"x" * (256 * 1024 - 8) + b'"}', b'{"d": [' + b"1e308," * 900 + b"1]}"):
        json = {"Content-Type": "application/json"}
        assert problem_of(api.put(HERO, headers={**service, **match(1), **json}, content=body)) == (
            422,
            "invalid-request",
        )
    assert problem_of(put(api, service, ["no object"], version=1)) == (422, "invalid-request")
    assert api.get(HERO, headers=service).headers["etag"] == '"1"'


def test_history_keeps_twenty_versions_and_an_old_one_comes_back(api: httpx.Client, service: Headers) -> None:
    written(api, service, 23)
    history = api.get(f"{HERO}/versions", headers=service).json()["versions"]
    assert [each["version"] for each in history] == list(range(23, 3, -1))
    assert "document" not in history[0]
    old = api.get(f"{HERO}/versions/4", headers=service)
    assert old.json()["item"]["document"] == {"level": 4}
    pruned = api.get(f"{HERO}/versions/3", headers=service)
    assert (problem_of(pruned), pruned.json()["version"]) == ((410, "version-pruned"), 23)
    assert problem_of(api.get(f"{HERO}/versions/24", headers=service)) == (404, "not-found")
    back = api.post(f"{HERO}/versions/4/restore", headers={**service, **match(23)})
    item = back.json()["item"]
    assert (back.headers["etag"], item["document"], item["restoredFrom"]) == ('"24"', {"level": 4}, 4)
    assert problem_of(api.get(f"{HERO}/versions/4", headers=service)) == (410, "version-pruned")
    assert problem_of(api.post(f"{HERO}/versions/9/restore", headers={**service, **match(23)})) == (
        412,
        "version-mismatch",
    )
    again = api.post(f"{HERO}/versions/24/restore", headers=service)
    assert again.headers["etag"] == '"24"', "what the current version holds is not written again"


def test_a_deleted_item_is_gone_comes_back_or_is_written_anew(api: httpx.Client, service: Headers) -> None:
    written(api, service, 2)
    assert problem_of(api.delete(HERO, headers={**service, **match(1)})) == (412, "version-mismatch")
    assert api.delete(HERO, headers={**service, **match(2)}).status_code == 204
    for refused in (
        api.get(HERO, headers=service),
        api.get(f"{HERO}/versions", headers=service),
        api.post(f"{HERO}/versions/1/restore", headers=service),
        put(api, service, {}, version=2),
        api.delete(HERO, headers=service),
    ):
        assert problem_of(refused) == (410, "item-deleted")
    assert api.get(GUILD, headers=service).json()["items"] == []
    listed = api.get(GUILD, headers=service, params={"deleted": "true"}).json()["items"]
    assert [each["key"] for each in listed] == ["hero"] and listed[0]["deletedAt"]
    for _ in range(2):
        assert api.post(f"{HERO}/undelete", headers=service).headers["etag"] == '"2"'
    assert api.get(HERO, headers=service).json()["item"]["document"] == {"level": 2}
    api.delete(HERO, headers=service)
    anew = put(api, service, {"level": 0})
    assert (anew.status_code, anew.headers["etag"]) == (201, '"3"')
    assert problem_of(api.post(f"{GUILD}/nobody/undelete", headers=service)) == (404, "not-found")


def test_a_list_is_by_key_a_page_at_a_time(api: httpx.Client, service: Headers) -> None:
    for key in ("b", "a", "C", "é", "d"):
        assert put(api, service, {}, at=f"{GUILD}/{key}").status_code == 201
    put(api, service, {}, at="/api/library/guild:1234/other")
    keys, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = api.get(GUILD, headers=service, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        keys += [each["key"] for each in page["items"]]
        cursor, pages = page["nextCursor"], pages + 1
    assert (keys, pages) == (["C", "a", "b", "d", "é"], 3)
    assert "document" not in page["items"][0]


def test_a_namespace_is_full_and_a_deletion_makes_room(
    environment: dict[str, str], service: Headers, sql: Sql
) -> None:
    with client_of(create_app(settings(environment, max_library_items=2))) as api:
        for key in ("a", "b"):
            assert put(api, service, {}, at=f"{GUILD}/{key}").status_code == 201
        full = put(api, service, {}, at=f"{GUILD}/c")
        assert (problem_of(full), full.json()["limit"]) == ((409, "too-many-items"), 2)
        assert put(api, service, {"x": 1}, at=f"{GUILD}/a", version=1).status_code == 200
        assert api.delete(f"{GUILD}/a", headers=service).status_code == 204
        assert put(api, service, {}, at=f"{GUILD}/c").status_code == 201
        assert problem_of(api.post(f"{GUILD}/a/undelete", headers=service)) == (409, "too-many-items")


def test_a_users_writes_within_an_hour_are_limited_and_a_bots_are_not(
    environment: dict[str, str], service: Headers, ada: tuple[str, Headers], sql: Sql
) -> None:
    user, own = ada
    place = f"/api/library/user:{user}/hero"
    with client_of(create_app(settings(environment, library_writes_per_hour=2))) as api:
        written(api, own, 2, at=place)
        refused = put(api, own, {}, at=place, version=2)
        assert problem_of(refused) == (429, "rate-limited")
        assert (refused.json()["limit"], int(refused.headers["retry-after"]) > 3500) == (
            "library-writes-per-hour",
            True,
        )
        assert put(api, service, {}, at=place, version=2).status_code == 200
        sql.execute("update lull.rate_counters set window_start = window_start - interval '1 hour'")
        assert put(api, own, {"on": 1}, at=place, version=3).status_code == 200


def test_the_cleanup_takes_what_was_deleted_a_week_ago_and_nothing_else(
    api: httpx.Client, service: Headers, sql: Sql, admin: Headers
) -> None:
    for key in ("old", "late", "kept"):
        written(api, service, 2, at=f"{GUILD}/{key}")
        if key != "kept":
            api.delete(f"{GUILD}/{key}", headers=service)
    age = "update lull.library_items set deleted_at = deleted_at - %s::interval where key = %s"
    sql.execute(age, ("7 days 1 second", "old"))
    sql.execute(age, ("6 days 23 hours", "late"))
    sql.execute("update lull.library_versions set written_at = now() - interval '2 years'")
    run = api.post(CLEANUP, headers=admin, params={"policy": "deleted-items"})
    assert run.json()["deleted"] == 1
    assert problem_of(api.get(f"{GUILD}/old", headers=service)) == (404, "not-found")
    assert problem_of(api.post(f"{GUILD}/old/undelete", headers=service)) == (404, "not-found")
    assert api.post(f"{GUILD}/late/undelete", headers=service).status_code == 200
    assert len(api.get(f"{GUILD}/kept/versions", headers=service).json()["versions"]) == 2
    assert sql.execute("select distinct key from lull.library_versions order by 1").fetchall() == [
        {"key": "kept"},
        {"key": "late"},
    ]


def test_a_namespace_that_is_empty_is_no_error(api: httpx.Client, service: Headers) -> None:
    assert api.get(f"/api/library/user:{uuid4()}", headers=service).json() == {"items": [], "nextCursor": None}
