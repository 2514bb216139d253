"""lull.js from another origin: drafts, attachments and messages, through reloads, tabs and a network that fails."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import Page

from infra.local.environment import ROOT
from tests.browser.application import Application
from tests.browser.conftest import Visitor, heard, state_of, until
from tests.callers import access_token

Sql = psycopg.Connection[Any]
SENT = "lull.state.messages.length && lull.state.messages.every(each => each.state === 'sent')"


def stored(page: Page) -> dict[str, Any]:
    """What the page has stored."""
    name = page.evaluate("Object.keys(localStorage).find(name => name.startsWith('lull:1:'))")
    return dict(json.loads(page.evaluate("name => localStorage.getItem(name)", name))) if name else {}


def change_stored(page: Page, change: str) -> None:
    """Change what is stored, as time or another program would have."""
    page.evaluate(
        "([name, change]) => { const s = JSON.parse(localStorage.getItem(name)); eval(change); "
        "localStorage.setItem(name, JSON.stringify(s)); }",
        [page.evaluate("Object.keys(localStorage).find(name => name.startsWith('lull:1:'))"), change],
    )


def statuses(sql: Sql) -> list[str]:
    return [row["status"] for row in sql.execute("select status from lull.sessions order by created_at")]


def test_a_file_before_the_first_message_and_the_message_activates_the_draft(
    visitor: Visitor, application: Application, sql: Sql, storage: httpx.Client
) -> None:
    page = visitor.app()
    assert state_of(page)["status"] == "draft"
    assert page.evaluate("attach('notes.txt', 'text/plain', 'Bytes')") == "uploaded"
    assert statuses(sql) == ["draft"]
    assert page.evaluate("lull.send('Hello')") == "sent"
    assert statuses(sql) == ["active"]
    assert application.texts == ["Hello"]
    (file,) = sql.execute("select bucket, path, state from lull.session_files").fetchall()
    assert file["state"] == "uploaded"
    assert storage.get(f"/object/{file['bucket']}/{file['path']}").text == "Bytes"
    assert state_of(page)["files"][0]["state"] == "uploaded"


def test_without_early_sessions_nothing_is_created_before_the_first_message(
    visitors: Callable[..., Visitor], late_server: str, application: Application, sql: Sql
) -> None:
    page = visitors(late_server).app()
    assert state_of(page) | {"kept": True} == state_of(page)
    assert (state_of(page)["early"], state_of(page)["status"], statuses(sql)) == (False, "none", [])
    refused = page.evaluate("attempt(attach('notes.txt', 'text/plain', 'Bytes'))")
    assert refused == {"code": "early-off", "message": "Files can be attached after the first message."}
    assert page.evaluate("lull.send('Hello')") == "sent"
    assert (statuses(sql), application.texts) == (["active"], ["Hello"])
    assert page.evaluate("attach('notes.txt', 'text/plain', 'Bytes')") == "uploaded"


def test_a_reload_keeps_the_draft_and_what_was_attached(visitor: Visitor, sql: Sql) -> None:
    page = visitor.app()
    page.evaluate("attach('notes.txt', 'text/plain', 'Bytes')")
    before = state_of(page)
    visitor.visit(page)
    after = state_of(page)
    assert (after["sessionId"], after["files"]) == (before["sessionId"], before["files"])
    assert statuses(sql) == ["draft"]


def test_a_first_message_typed_offline_is_delivered_once_whatever_is_pressed_meanwhile(
    visitor: Visitor, application: Application, sql: Sql
) -> None:
    page = visitor.app()
    other = visitor.app()
    visitor.context.set_offline(True)
    assert page.evaluate("lull.send('Hello')") == "queued"
    assert page.evaluate("lull.send('Hello')") == "queued"
    until(other, "lull.state.messages.length === 1")
    assert other.evaluate("lull.send('Hello')") == "queued"
    assert page.evaluate("lull.send('And this')") == "queued"
    assert application.requests == 0
    visitor.context.set_offline(False)
    visitor.visit(page)  # a reload, before the other tab may have noticed
    until(page, SENT)
    until(other, SENT)
    assert page.evaluate("lull.send('Hello')") == "sent"  # written again afterwards: another message
    assert application.texts == ["Hello", "And this", "Hello"]
    assert statuses(sql) == ["active"]


def test_a_draft_that_could_not_be_created_offline_is_created_once_and_its_message_survives_a_reload(
    visitor: Visitor, application: Application, sql: Sql
) -> None:
    page = visitor.context.new_page()
    page.goto(f"{application.origin}/?api={visitor.api}")
    page.wait_for_selector("html[data-ready]", state="attached")
    visitor.context.set_offline(True)
    page.evaluate("begin()")
    assert state_of(page)["status"] == "none"
    assert page.evaluate("lull.send('Hello')") == "queued"
    assert heard(page, "error")[-1]["code"] == "waiting"
    visitor.context.set_offline(False)
    visitor.visit(page)
    until(page, SENT)
    assert (application.texts, statuses(sql)) == (["Hello"], ["active"])


def test_a_delivery_that_fails_or_whose_answer_is_lost_is_repeated_with_its_key(
    visitor: Visitor, application: Application
) -> None:
    failures = [503, 0, 429]
    visitor.provoked |= {"503", "429", "net::ERR_EMPTY_RESPONSE"}
    application.failures[:] = failures
    page = visitor.app()
    page.evaluate("lull.send('Hello')")
    until(page, SENT)
    assert application.texts == ["Hello"]
    assert application.requests == len(failures) + 1


def test_a_message_that_the_application_refuses_is_handed_back_and_the_next_one_goes(
    visitor: Visitor, application: Application
) -> None:
    visitor.provoked.add("422")
    application.failures[:] = [422]
    page = visitor.app()
    assert page.evaluate("attempt(lull.send('Too rude'))") == {"code": "rejected", "message": "The application refuses it."}
    assert heard(page, "error")[-1]["texts"] == ["Too rude"]
    assert page.evaluate("lull.send('Hello')") == "sent"
    assert application.texts == ["Hello"]


@pytest.mark.parametrize("change", ["s.items[0].at -= 3_700_000", "s.offset = 360_000"])
def test_a_message_that_is_an_hour_old_or_of_unknown_age_is_asked_about(
    change: str, visitor: Visitor, application: Application
) -> None:
    page = visitor.app()
    visitor.context.set_offline(True)
    page.evaluate("lull.send('Hello')")
    page.evaluate("lull.close()")
    visitor.context.set_offline(False)
    page.goto(f"{application.origin}/blank")
    change_stored(page, change)
    visitor.visit(page)
    assert [each["state"] for each in state_of(page)["messages"]] == ["ask"]
    assert page.evaluate("lull.send('Hello')") == "ask"
    assert application.requests == 0
    assert page.evaluate("lull.send('Hello', {evenIfOld: true})") == "sent"
    assert application.texts == ["Hello"]


def test_an_attachment_picked_offline_is_kept_over_a_reload_or_said_to_be_lost(
    visitor: Visitor, application: Application, sql: Sql
) -> None:
    page = visitor.app()
    visitor.context.set_offline(True)
    assert page.evaluate("attach('kept.txt', 'text/plain', 'Bytes')") == "kept"
    page.evaluate("lull.close()")  # so that the page before the reload sends nothing any more
    visitor.context.set_offline(False)
    visitor.visit(page)
    until(page, "lull.state.files[0]?.state === 'uploaded'")
    visitor.context.set_offline(True)
    assert page.evaluate("attach('evicted.txt', 'text/plain', 'Bytes')") == "kept"
    page.evaluate("lull.close()")
    visitor.context.set_offline(False)
    page.goto(f"{application.origin}/blank")
    page.evaluate("new Promise(done => indexedDB.deleteDatabase('lull').onsuccess = done)")
    visitor.visit(page)
    assert [each["name"] for each in heard(page, "lost")] == ["evicted.txt"]
    assert [row["name"] for row in sql.execute("select name from lull.session_files")] == ["kept.txt"]


def test_a_file_that_is_too_large_to_keep_is_uploaded_later_and_lost_with_its_page(visitor: Visitor) -> None:
    large = "'x'.repeat(26_000_000)"
    page = visitor.app()
    visitor.context.set_offline(True)
    assert page.evaluate(f"attach('large.txt', 'text/plain', {large})") == "not-kept"
    visitor.context.set_offline(False)
    until(page, "lull.state.files[0]?.state === 'uploaded'")
    visitor.context.set_offline(True)
    assert page.evaluate(f"attach('gone.txt', 'text/plain', {large})") == "not-kept"
    page.evaluate("lull.close()")
    visitor.context.set_offline(False)
    visitor.visit(page)
    assert [each["name"] for each in heard(page, "lost")] == ["gone.txt"]


def test_a_refused_file_says_why(visitor: Visitor) -> None:
    visitor.provoked.add("422")
    page = visitor.app()
    refused = page.evaluate("attempt(attach('page.html', 'text/html', '<p>'))")
    assert refused["code"] == "rejected"
    assert refused["message"].startswith("contentType: must be one of ")
    assert state_of(page)["files"] == []


def test_a_full_store_is_told_and_loses_no_message(visitor: Visitor, application: Application) -> None:
    page = visitor.context.new_page()
    page.add_init_script("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }")
    visitor.visit(page)
    assert state_of(page)["kept"] is False
    visitor.context.set_offline(True)
    assert page.evaluate("lull.send('Hello')") == "queued"
    visitor.context.set_offline(False)
    until(page, SENT)
    assert application.texts == ["Hello"]


def test_another_user_never_sends_what_was_queued_and_a_new_token_of_the_same_user_does(
    visitor: Visitor, application: Application, environment: dict[str, str], sql: Sql
) -> None:
    ada = "6a0e8f44-4d1c-4d52-9c26-0d9c8a3c2b10"
    page = visitor.app(access=access_token(environment, ada))
    visitor.context.set_offline(True)
    page.evaluate("lull.send('Of Ada')")
    page.evaluate("lull.close()")
    visitor.context.set_offline(False)
    page.goto(f"{application.origin}/blank")
    before = stored(page)["id"]
    change_stored(page, "s.items[0].at -= 3_700_000")  # so that it waits
    visitor.visit(page, access=access_token(environment, ada, iat=1))
    assert state_of(page)["sessionId"] == before
    assert [each["text"] for each in state_of(page)["messages"]] == ["Of Ada"]
    visitor.visit(page, access=access_token(environment))
    assert state_of(page)["sessionId"] != before
    assert state_of(page)["messages"] == application.texts == []
    assert heard(page, "error")[0]["code"] == "changed"


def test_who_has_to_sign_in_again_loses_nothing(
    visitor: Visitor, application: Application, environment: dict[str, str]
) -> None:
    visitor.provoked.add("401")
    ada = "6a0e8f44-4d1c-4d52-9c26-0d9c8a3c2b10"
    page = visitor.app(access=access_token(environment, ada))
    page.evaluate("token => window.access = token", access_token(environment, ada, exp=1))
    assert page.evaluate("lull.send('Hello')") == "queued"
    assert heard(page, "error")[-1]["code"] == "sign-in"
    assert "sign in again" in heard(page, "error")[-1]["message"]
    page.evaluate("token => window.access = token", access_token(environment, ada))
    assert page.evaluate("lull.send('Hello')") == "sent"
    assert application.texts == ["Hello"]


def test_a_user_who_signs_in_takes_the_draft_along(
    visitor: Visitor, environment: dict[str, str], sql: Sql
) -> None:
    ada = "6a0e8f44-4d1c-4d52-9c26-0d9c8a3c2b10"
    page = visitor.app()
    visitor.visit(page, access=access_token(environment, ada))
    (row,) = sql.execute("select owner_id::text, owner_token_hash from lull.sessions").fetchall()
    assert row == {"owner_id": ada, "owner_token_hash": None}
    assert "token" not in stored(page)


def test_the_guide_works_as_it_is_written(visitor: Visitor, application: Application, sql: Sql) -> None:
    guide = (ROOT / "docs" / "browser.md").read_text()
    lines, listeners = re.findall(r"^```js\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    script = lines.replace("await lull.attach", f"{listeners}await lull.attach")
    page = visitor.page(f"{application.origin}/blank")
    with page.expect_console_message(lambda message: message.text == "active true 1"):
        page.add_script_tag(content=script.replace("https://lull.example.com", visitor.api), type="module")
    until(page, "Object.values(localStorage).some(each => each.includes('sentAt'))")
    assert application.texts == ["Hello"]
    assert [row["state"] for row in sql.execute("select state from lull.session_files")] == ["uploaded"]
