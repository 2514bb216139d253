"""The dashboard in Chromium: who gets in, what is shown and done, and what happens when the API goes away."""

import json
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from playwright.sync_api import Page, Route, expect

from infra.local.stack import LocalSupabase
from tests.browser.conftest import Visitor
from tests.browser.test_pages import PHONE, check_accessibility
from tests.calls import add_session

Sql = psycopg.Connection[Any]
Visitors = Callable[..., Visitor]


@pytest.fixture
def secret(stack: LocalSupabase) -> str:
    return stack.environment()["CRON_SECRET"]


def sign_in(page: Page, secret: str) -> None:
    page.get_by_label("Admin secret").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Cleanup", exact=True)).to_be_visible()
    expect(page.locator("#funnel")).not_to_have_text("Loading …")


def opened(visitor: Visitor, secret: str) -> Page:
    page = visitor.page(f"{visitor.api}/admin")
    sign_in(page, secret)
    return page


def test_only_the_secret_opens_it_and_nothing_keeps_it(visitor: Visitor, secret: str) -> None:
    visitor.provoked.add("401")
    page = visitor.page(f"{visitor.api}/admin")
    page.get_by_label("Admin secret").fill("not the secret of this API")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("This is not the admin secret.")
    expect(page.locator("#board")).to_be_hidden()
    sign_in(page, secret)
    kept = page.evaluate(
        "async () => JSON.stringify([document.documentElement.outerHTML, "
        "[...document.querySelectorAll('input')].map(input => input.value), location.href, document.cookie, "
        "{...localStorage}, {...sessionStorage}, await indexedDB.databases(), await caches.keys(), history.state])"
    )
    assert secret not in kept
    assert json.loads(kept)[3:7] == ["", {}, {}, []]
    assert not [line for line in visitor.requests if secret in line]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Admin secret")).to_be_focused()
    sign_in(page, secret)
    page.reload()
    expect(page.locator("#board")).to_be_hidden()
    headers = page.request.get(f"{visitor.api}/admin").headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'"
    )
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert page.request.get(f"{visitor.api}/admin/page.html").status == 404


def test_a_dry_run_at_another_age_then_a_run_and_its_restore(visitor: Visitor, secret: str, sql: Sql) -> None:
    for age, count in (("30 h", 3), ("3 h", 4)):
        for _ in range(count):
            add_session(sql, age=age)
    page = opened(visitor, secret)
    dry = page.locator("#dry")
    expect(dry).to_contain_text("3 abandoned drafts at 24 hours")
    page.get_by_label("Age of abandoned drafts").fill("2")
    expect(dry).to_contain_text("7 abandoned drafts at 2 hours")
    page.get_by_role("button", name="Run now").click()
    dialog = page.get_by_role("dialog", name="Run the cleanup now?")
    dialog.get_by_role("button", name="Delete 3 rows").click()
    expect(page.locator("#notice")).to_contain_text("The run deleted 3 rows")
    assert sql.execute("select count(*) as n from lull.sessions").fetchone() == {"n": 4}
    page.get_by_role("button", name=re.compile("Show the run of")).click()
    page.get_by_role("dialog", name="Run").get_by_role("button", name="Restore what it deleted").click()
    expect(page.locator("#notice")).to_contain_text("3 rows and 0 below are back.")
    assert sql.execute("select count(*) as n from lull.sessions").fetchone() == {"n": 7}


def test_one_draft_of_a_user_is_found_and_brought_back(visitor: Visitor, secret: str, sql: Sql) -> None:
    owner = uuid4()
    for title in ("The lost plan", "Another"):
        add_session(sql, age="30 h", owner_id=owner, title=title)
    page = opened(visitor, secret)
    page.request.post(f"{visitor.api}/api/admin/cleanup-sessions", headers={"Authorization": f"Bearer {secret}"})
    page.get_by_label("User’s id or email").fill(str(owner))
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#found li")).to_have_count(2)
    page.get_by_role("button", name="Bring back The lost plan").click()
    expect(page.locator("#found")).to_contain_text("The lost plan is back.")
    assert sql.execute("select title from lull.sessions").fetchall() == [{"title": "The lost plan"}]
    page.get_by_label("User’s id or email").fill("no such text")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#found")).to_contain_text("Nothing archived matches.")


def test_pause_hold_and_a_change_made_elsewhere(visitor: Visitor, secret: str, sql: Sql) -> None:
    session = add_session(sql, age="30 h")
    page = opened(visitor, secret)
    page.get_by_role("button", name="Pause").click()
    page.get_by_label("Reason").last.fill("a migration")
    page.get_by_role("button", name="Pause all policies").click()
    expect(page.locator("#cleanup")).to_contain_text("The cleanup is paused since")
    expect(page.locator("#cleanup")).to_contain_text("a migration")
    page.get_by_role("button", name="Unpause").click()
    expect(page.locator("#cleanup")).not_to_contain_text("paused")
    page.get_by_label("Key").fill(str(session))
    page.locator("#hold-reason").fill("asked by support")
    page.get_by_role("button", name="Keep this row").click()
    expect(page.locator("#holds")).to_contain_text("asked by support")
    add_session(sql, status="active", kind="room")
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_role("region", name="Sessions by kind and status").get_by_role("row", name="room 0 1")).to_be_visible()
    page.get_by_role("button", name=f"End the hold of {session}").click()
    expect(page.locator("#holds")).to_have_text("No row is on hold.")


def test_an_api_that_goes_away_and_comes_back(visitor: Visitor, secret: str, sql: Sql) -> None:
    visitor.provoked.add("net::ERR_FAILED")
    page = visitor.context.new_page()
    page.clock.install()
    page.goto(f"{visitor.api}/admin")
    sign_in(page, secret)
    now = re.compile("As of now")
    expect(page.locator("#age")).to_have_text(now)
    add_session(sql)
    page.clock.run_for(16_000)
    expect(page.get_by_role("row", name="chat 1 0 0 0")).to_be_visible()

    expect(page.locator("#age")).to_have_text(now)

    def away(route: Route) -> None:
        route.abort()

    page.route("**/api/admin/**", away)
    page.clock.run_for(16_000)
    expect(page.locator("#trouble")).to_contain_text("The API does not answer. What is shown is of the last answer.")
    expect(page.locator("#trouble")).to_contain_text("Next try in 30 s")
    expect(page.locator("#age")).to_have_class(re.compile("stale"))
    expect(page.get_by_role("row", name="chat 1 0 0 0")).to_be_visible()
    page.clock.run_for(31_000)
    expect(page.locator("#trouble")).to_contain_text("Next try in 60 s")
    page.unroute("**/api/admin/**", away)
    page.clock.run_for(61_000)
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#age")).not_to_have_class(re.compile("stale"))
    page.clock.run_for(31 * 60_000)
    expect(page.locator("#door")).to_contain_text("You were signed out after 30 minutes without input.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(visitors: Visitors, early_server: str, secret: str, sql: Sql, scheme: str) -> None:
    """axe-core on both states, with every part filled, and at 360 pixels."""
    for _ in range(3):
        add_session(sql, age="30 h", title="A draft with a very long title that has to wrap somewhere " * 2)
    sql.execute(
        "insert into lull.daily_rollups (day, kind, measure, n) values (current_date - 40, 'chat', 'created', 1)"
    )
    sql.execute(
        "insert into lull.idle_gaps (kind, status, day, before, reached, outcome, n) select 'chat', 'draft', "
        "current_date, 0, b, o, n from (values (10, 'returned', 90), (12, 'returned', 40), (17, 'censored', 900)) "
        "x (b, o, n)"
    )
    visitor = visitors(early_server, color_scheme=scheme, viewport=PHONE)
    page = visitor.page(f"{early_server}/admin")
    check_accessibility(page)
    page.request.post(f"{early_server}/api/admin/cleanup-sessions", headers={"Authorization": f"Bearer {secret}"})
    add_session(sql, age="30 h")
    sign_in(page, secret)
    expect(page.locator("#dry table").first).to_be_visible()
    expect(page.locator("#runs svg")).to_be_visible()
    expect(page.locator("#regret")).to_contain_text("The present age of 24 h takes at least 10.")
    page.get_by_label("Regret that is accepted").fill("20")
    page.keyboard.press("Tab")
    expect(page.locator("#regret")).to_contain_text("1 h or more would take at most 20.0 %")
    page.locator("#regret-kind").select_option("active games")
    expect(page.locator("#regret")).to_contain_text("Not enough data yet")
    page.locator("#regret-kind").select_option("drafts of chats")
    expect(page.locator("#regret svg")).to_be_visible()
    page.get_by_label("User’s id or email").fill("long title")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#found li").first).to_be_visible()
    page.get_by_role("button", name="Check this deployment").click()
    expect(page.locator("#doctor li").first).to_be_visible()
    check_accessibility(page)
    page.get_by_role("button", name=re.compile("Show the run of")).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check_accessibility(page)
