"""lull.js from another origin: presence, expiry, and coming back."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import psycopg
from playwright.sync_api import Error, Page, expect

from tests.browser.application import Application
from tests.browser.conftest import Visitor, heard, state_of, until
from tests.calls import CLEANUP

Sql = psycopg.Connection[Any]
ROOM = {"kind": "room", "name": "Ada"}
LOOK = "document.dispatchEvent(new Event('visibilitychange'))"


def hide(page: Page, hidden: bool) -> None:
    """What the browser does when the user turns to another tab, or comes back."""
    page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: {str(hidden).lower()}, configurable: true}})")
    page.evaluate(LOOK)


def age(sql: Sql, minutes: int) -> None:
    """Make all sessions and participants as old as if nothing had happened for so long."""
    with sql.transaction():
        sql.execute("set local session_replication_role = replica")
        older = f"now() - interval '{minutes} min'"
        sql.execute(f"update lull.sessions set last_activity_at = {older}, created_at = least(created_at, {older})")
        sql.execute(f"update lull.session_participants set last_seen_at = {older}")


def clean_up(api: str, admin: dict[str, str]) -> int:
    return int(httpx.post(f"{api}{CLEANUP}", headers=admin, timeout=60).json()["deleted"])


def guest_of(page: Page, uses: int = 5) -> dict[str, Any]:
    """The options of a guest who was invited to the room of this page."""
    token = page.evaluate("uses => lull.call('POST', '/invites', {maxUses: uses})", uses)["token"]
    join = {"sessionId": state_of(page)["sessionId"], "invite": token, "name": "Ben"}
    return {"kind": "room", "join": join}


def people(page: Page) -> list[tuple[str, str, bool]]:
    return [(each["name"], each["state"], each["you"]) for each in page.evaluate("lull.participants()")]


def told(sql: Sql) -> list[str]:
    return [row["event"] for row in sql.execute("select event from lull.session_events order by id")]


def test_the_other_page_sees_who_is_here_and_a_reload_tells_nothing(
    visitors: Callable[..., Visitor], sql: Sql
) -> None:
    ada = visitors().app(**ROOM)
    bens = visitors()
    guest = guest_of(ada)
    ben = bens.app(**guest)
    assert people(ada) == [("Ada", "here", True), ("Ben", "here", False)]
    assert people(ben) == [("Ada", "here", False), ("Ben", "here", True)]
    bens.visit(ben, **guest)  # a reload
    assert people(ada) == [("Ada", "here", True), ("Ben", "here", False)]
    assert told(sql) == ["created", "activated", "participant.joined", "participant.joined"]
    assert ben.evaluate("lull.send('Hello')") == "sent"
    ben.goto("about:blank")
    expect_leave = "select count(*) as n from lull.session_participants where name = 'Ben' and leaving_at is not null"
    until(ada, "new Promise(done => setTimeout(() => done(true), 50))")  # the leave may be under way
    row = sql.execute(expect_leave).fetchone()
    assert row == {"n": 1}


def test_a_hidden_page_beats_once_a_minute_and_comes_back_without_flapping(visitor: Visitor, sql: Sql) -> None:
    visitor.context.clock.install()
    page = visitor.app(**ROOM)
    hide(page, True)
    visitor.context.clock.run_for(31_000)  # the beat that was planned before
    before = visitor.sent("POST", "/heartbeat")
    visitor.context.clock.run_for(58_000)
    assert visitor.sent("POST", "/heartbeat") == before
    visitor.context.clock.run_for(3_000)
    assert visitor.sent("POST", "/heartbeat") == before + 1
    hide(page, False)
    until(page, "lull.participants().then(all => all[0].state === 'here')")
    assert told(sql) == ["created", "activated", "participant.joined"]
    assert visitor.sent("GET", "/expiry") == 1


def test_of_two_tabs_one_beats_and_the_other_goes_on_when_it_is_left_or_closed_or_crashes(visitor: Visitor) -> None:
    visitor.context.clock.install()
    first, second = visitor.app(**ROOM), visitor.app(**ROOM)
    assert state_of(first)["sessionId"] == state_of(second)["sessionId"]

    def beats(page: Page) -> int:
        before = visitor.sent("POST", "/heartbeat")
        visitor.context.clock.run_for(31_000)
        until(page, "lull.participants().then(all => all.length === 1)")
        return visitor.sent("POST", "/heartbeat") - before

    assert beats(second) == 1
    first.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")  # into the bfcache
    assert visitor.sent("POST", "/leave") == 1
    assert beats(second) == 1
    first.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    until(first, "lull.state.present")
    second.close()
    assert beats(first) == 1
    third = visitor.app(**ROOM)
    with suppress(Error):  # the page is gone before it answers
        first.goto("chrome://crash")
    until(third, "navigator.locks.query().then(all => all.held.length === 1 && !all.pending.length)")
    first.close()
    assert beats(third) == 1


def test_a_warning_is_shown_once_and_taken_down_by_staying(visitor: Visitor, sql: Sql) -> None:
    page = visitor.app(**ROOM)
    age(sql, 52)
    page.evaluate(LOOK)
    until(page, "heard.some(([name]) => name === 'warning')")
    (warning,) = heard(page, "warning")
    assert 300 < warning["secondsLeft"] <= 480
    page.evaluate("lull.stay()")
    until(page, "heard.filter(([name]) => name === 'warning').length === 2")
    assert heard(page, "warning")[1] is False
    assert page.evaluate("lull.call('GET', '/expiry')")["secondsLeft"] > 3500


def test_an_expired_session_leads_to_the_expired_page_and_is_forgotten(visitor: Visitor, sql: Sql) -> None:
    page = visitor.app(**ROOM)
    before = state_of(page)["sessionId"]
    age(sql, 120)
    page.evaluate(LOOK)
    page.wait_for_url("**/expired")
    expect(page.get_by_role("heading")).to_have_text("This session has expired")
    visitor.visit(page, **ROOM)
    assert state_of(page)["sessionId"] != before


def test_an_application_may_show_its_own_words_instead(visitor: Visitor, sql: Sql) -> None:
    page = visitor.app(stays=True, **ROOM)
    age(sql, 120)
    page.evaluate(LOOK)
    until(page, "heard.some(([name]) => name === 'expired')")
    assert page.url.startswith(visitor.application.origin)


def test_an_expired_invitation_leads_to_the_expired_page(visitors: Callable[..., Visitor], sql: Sql) -> None:
    guest = guest_of(visitors().app(**ROOM))
    sql.execute("update lull.invites set expires_at = now() - interval '1 s'")
    ben = visitors()
    ben.provoked.add("410")
    page = ben.context.new_page()
    page.goto(f"{ben.application.origin}/?api={ben.api}")
    page.wait_for_selector("html[data-ready]", state="attached")
    page.evaluate("options => void begin(options)", guest)
    page.wait_for_url("**/expired?reason=invite")
    expect(page.get_by_role("heading")).to_have_text("This invitation link has expired")


def test_who_was_removed_is_told(visitors: Callable[..., Visitor]) -> None:
    ada, bens = visitors().app(**ROOM), visitors()
    bens.provoked.add("409")
    ben = bens.app(**guest_of(ada))
    ada.evaluate("lull.participants().then(all => lull.call('DELETE', `/participants/${all[1].id}`))")
    bens.context.clock.install()
    ben.evaluate(LOOK)
    until(ben, "heard.some(([name, detail]) => name === 'error' && detail.code === 'removed')")


def test_a_late_return_restores_the_draft_with_its_file_and_is_told_once(
    visitor: Visitor, application: Application, sql: Sql, admin: dict[str, str]
) -> None:
    pages = [visitor.app(), visitor.app()]
    pages[0].evaluate("attach('notes.txt', 'text/plain', 'Bytes')")
    age(sql, 25 * 60)
    assert clean_up(visitor.api, admin) == 1
    for page in pages:
        page.evaluate(LOOK)
        until(page, "lull.state.status === 'archived'")
    assert pages[1].evaluate("lull.send('I am back')") == "sent"
    until(pages[0], "lull.state.status === 'active'")
    assert [len(heard(page, "returned")) for page in pages] == [0, 1]
    assert [row["state"] for row in sql.execute("select state from lull.session_files")] == ["uploaded"]
    assert application.texts == ["I am back"]


def test_what_was_written_in_a_draft_that_is_gone_is_handed_back(
    visitor: Visitor, application: Application, sql: Sql, admin: dict[str, str]
) -> None:
    visitor.provoked.add("410")
    page = visitor.app()
    age(sql, 25 * 60)
    clean_up(visitor.api, admin)
    sql.execute("update lull.archive_pages set purge_after = now() - interval '1 s'")
    clean_up(visitor.api, admin)
    assert page.evaluate("attempt(lull.send('I am back'))")["code"] == "expired"
    (expired,) = heard(page, "expired")
    assert expired["texts"] == ["I am back"]
    assert page.url.startswith(application.origin)  # a redirect would take the text away
    assert page.evaluate("lull.send('I am back')") == "sent"
    assert application.texts == ["I am back"]
