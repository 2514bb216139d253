"""Answers of a bounded size, although rows of before are larger, and none that holds up the event loop."""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.database.direct import Direct
from tests.callers import SESSIONS, as_service, as_user
from tests.calls import add_session
from tests.sql.driver import scalar

Sql = psycopg.Connection[Any]
LARGE = json.dumps({"a": [1e308] * 2300})  # of a release that measured 1e308 as 5 bytes


def test_a_large_row_of_before_stays_readable_and_a_page_stays_below_a_megabyte(
    api: httpx.Client, environment: dict[str, str], sql: Sql
) -> None:
    ada = str(uuid4())
    made = {add_session(sql, age=f"{n} min", owner_id=ada, metadata=LARGE) for n in range(5)}
    made |= {add_session(sql, age=f"{n} min", owner_id=ada) for n in range(30)}
    headers, seen, sizes = as_user(environment, ada), [], []
    cursor: str | None = ""
    while cursor is not None:
        page = api.get(SESSIONS, params={"limit": 100} | ({"cursor": cursor} if cursor else {}), headers=headers)
        assert page.status_code == 200
        sizes.append(len(page.content))
        seen += [session["id"] for session in page.json()["sessions"]]
        cursor = page.json()["nextCursor"]
    assert (len(seen), set(seen)) == (35, made)
    assert max(sizes) < 1_000_000
    one = api.get(f"{SESSIONS}/{next(iter(made))}", headers=headers)
    assert one.status_code == 200


def test_a_page_of_events_is_limited_in_bytes(api: httpx.Client, environment: dict[str, str], sql: Sql) -> None:
    session = add_session(sql, age="1 min")
    sql.execute(
        "insert into lull.session_events (session_id, kind, event, data) "
        "select %s, 'chat', 'created', jsonb_build_object('a', repeat('x', 400000)) from generate_series(1, 5)",
        [session],
    )
    service, counts, after = as_service(environment), [], 0
    while True:
        page = api.get(f"{SESSIONS}/{session}/events", params={"after": after}, headers=service)
        assert len(page.content) < 1_000_000
        counts.append(len(page.json()["events"]))
        after = page.json()["events"][-1]["id"]
        if not page.json()["more"]:
            break
    assert counts == [2, 2, 1]


@pytest.mark.parametrize("items", [[], ["x"], ["x" * 899_990, "y"], ["x" * 2_000_000, "y"], ["x" * 500_000] * 3])
def test_a_page_has_one_item_at_least_and_no_more_than_fit(items: list[str], sql: Sql) -> None:
    page = scalar(sql, "select lull.fit_page(%s::jsonb, 2)", json.dumps(items))
    fitting = [
        item for n, item in enumerate(items[:2]) if n == 0 or sum(len(each) + 2 for each in items[: n + 1]) <= 900_000
    ]
    assert page == fitting


def test_a_long_answer_of_a_direct_call_is_parsed_in_a_thread(
    connect: Callable[..., psycopg.Connection[Any]], database_url: str, sql: Sql
) -> None:
    """The event loop's own thread runs no `json.loads` of a long answer."""
    ada = str(uuid4())
    session = add_session(sql, age="1 min", owner_id=ada, metadata=LARGE)
    direct = Direct(database_url, 2)
    arguments = {"p_session": session, "p_caller": {"user_id": ada}}
    parsed: list[int] = []

    def profile(frame: Any, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "loads" and len(frame.f_locals["s"]) > 100_000:
            parsed.append(1)

    async def ask_twice() -> Any:
        await direct.call_async("lull_get_session", arguments, 10)  # opens the connection, in a thread
        sys.setprofile(profile)
        try:
            return await direct.call_async("lull_get_session", arguments, 10)
        finally:
            sys.setprofile(None)

    try:
        answer = asyncio.run(ask_twice())
    finally:
        direct.close()
    assert len(json.dumps(answer)) > 400_000 or len(answer["session"]["metadata"]["a"]) == 2300
    assert parsed == []
