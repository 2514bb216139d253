"""The expired page and the demo chat: what they show, to whom they are open, and whether everybody can use them."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from api.composition import create_app
from tests.browser.conftest import Visitor, until
from tests.browser.node_tools import tools
from tests.calls import settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
FILE: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"Bytes"}
PHONE = {"width": 360, "height": 740}


def pane(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title)


def check_accessibility(page: Page) -> None:
    """No fault that axe-core calls serious or critical, and no scrolling to the side."""
    script = (tools().packages / "axe-core" / "axe.min.js").read_text()
    page.evaluate(script)
    found = page.evaluate("axe.run().then(all => all.violations.map(({id, impact, nodes}) => "
                          "[impact, id, nodes.map(node => node.html)]))")
    assert [fault for fault in found if fault[0] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def plain() -> Iterator[Callable[..., httpx.Client]]:
    """Makes clients of an API that is deployed, with these settings."""
    clients = []

    def made(**changes: Any) -> httpx.Client:
        manager = client_of(create_app(settings(**changes)))
        clients.append(manager)
        return manager.__enter__()

    yield made
    for manager in clients:
        manager.__exit__(None, None, None)


def test_the_expired_page_says_why_and_shows_ways_on(plain: Callable[..., httpx.Client]) -> None:
    links = (("Home", "https://app.example.com/?a=1&b=2"), ("<Help>", "/help"))
    client = plain(expired_page_links=", ".join(f"{label}={address}" for label, address in links))
    answer = client.get("/expired?reason=invite&utm_source=mail")
    assert answer.status_code == 200
    assert "<h1>This invitation link has expired</h1>" in answer.text
    assert "Sessions become inactive after 1 hour of no activity." in answer.text
    assert re.findall(r'<a class="button(?: quiet)?" href="([^"]+)">(.+?)</a>', answer.text) == [
        ("https://app.example.com/?a=1&amp;b=2", "Home"),
        ("/help", "&lt;Help&gt;"),
    ]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'")
    assert "script-src" not in policy and "<script" not in answer.text
    assert "after 90 minutes" not in plain(session_timeout_hours=1.5).get("/expired").text
    assert "after 1.5 hours of" in plain(session_timeout_hours=1.5).get("/expired").text
    assert "after 30 minutes of" in plain(session_timeout_hours=0.5).get("/expired?reason=<b>").text


@pytest.mark.parametrize("links", ["Home", "Home=javascript:alert(1)", "=/x", "Home=//evil.example.com"])
def test_a_link_that_no_page_should_have_stops_the_start(links: str) -> None:
    with pytest.raises(ValueError, match="expired_page_links"):
        settings(expired_page_links=links)


def test_a_deployed_api_has_no_demo(plain: Callable[..., httpx.Client]) -> None:
    client = plain(enable_early_session_creation="true")
    for path in ("/demo", "/demo/demo.js", "/demo/messages"):
        assert client.get(path).status_code == 404
    assert client.post("/demo/age", json={}).status_code == 404


def test_the_demo_plays_a_chat_from_its_draft_to_a_late_return(visitor: Visitor, sql: Sql) -> None:
    page = visitor.page(f"{visitor.api}/demo")
    chat = pane(page, "Your chat")
    expect(chat.locator(".status")).to_have_text("Draft")
    with page.expect_file_chooser() as chooser:
        chat.get_by_role("button", name="Attach").click()
    chooser.value.set_files(FILE)
    expect(chat.get_by_role("list", name="Attached files")).to_have_text("notes.txt")
    chat.get_by_role("button", name="Two days, then clean up").click()
    expect(chat.locator(".status")).to_have_text("Archived")
    chat.get_by_label("Message: Your chat").fill("Hello")
    page.keyboard.press("Enter")
    expect(chat.locator(".status")).to_have_text("Active")
    expect(chat.locator(".notices")).to_contain_text("Welcome back")
    expect(chat.get_by_role("log").get_by_text("Hello")).to_have_count(1)
    row = sql.execute("select status, (select count(*) from lull.session_files f where f.session_id = s.id) as files "
                      "from lull.sessions s where kind = 'chat'").fetchone()
    assert row == {"status": "active", "files": 1}


def test_the_demo_explains_its_attach_button_where_early_sessions_are_off(
    visitors: Callable[..., Visitor], late_server: str
) -> None:
    page = visitors(late_server).page(f"{late_server}/demo")
    chat = pane(page, "Your chat")
    attach = chat.get_by_role("button", name="Attach")
    expect(attach).to_have_attribute("aria-disabled", "true")
    expect(attach).to_have_accessible_description(re.compile("early sessions are turned off"))
    attach.click(force=True)
    expect(chat.locator(".notices")).to_contain_text("Files can be attached after the first message here")
    chat.get_by_label("Message: Your chat").fill("Hello")
    chat.get_by_role("button", name="Send").click()
    expect(chat.locator(".status")).to_have_text("Active")
    expect(attach).to_have_attribute("aria-disabled", "false")
    check_accessibility(page)


def test_the_demo_plays_a_room_of_two_its_warning_and_its_end(visitor: Visitor) -> None:
    page = visitor.page(f"{visitor.api}/demo")
    ada = pane(page, "Ada’s room")
    ada.get_by_role("button", name="Invite Ben").click()
    ben = pane(page, "Ben, invited")
    expect(ada.get_by_role("list", name="People in this room")).to_have_text(re.compile(r"Ada \(you\).*Ben"))
    ben.get_by_label("Message: Ben, invited").fill("Hello, Ada")
    page.keyboard.press("Enter")
    expect(ada.get_by_role("log")).to_contain_text("Hello, Ada")
    ada.get_by_role("button", name="52 minutes: warning").click()
    expect(ada.get_by_role("alert")).to_contain_text("closes in 8 minutes")
    check_accessibility(page)
    ada.get_by_role("button", name="Stay").click()
    expect(ada.get_by_role("alert")).to_be_hidden()
    ada.get_by_role("button", name="Two hours: expired").click()
    page.wait_for_url("**/expired")
    page.get_by_role("link", name="Home").click()
    expect(pane(page, "Ada’s room").locator(".status")).to_have_text("Active")


def test_the_demo_shows_a_queued_message_over_a_reload(visitor: Visitor) -> None:
    page = visitor.page(f"{visitor.api}/demo")
    chat = pane(page, "Your chat")
    expect(chat.locator(".status")).to_have_text("Draft")
    page.wait_for_load_state("networkidle")  # the room's pane, too
    visitor.context.set_offline(True)
    chat.get_by_label("Message: Your chat").fill("Typed offline")
    chat.get_by_role("button", name="Send").click()
    expect(chat.get_by_role("log")).to_contain_text("Queued: sent when you are back online")
    visitor.context.set_offline(False)
    page.reload()
    expect(chat.locator(".status")).to_have_text("Active")
    expect(chat.get_by_role("log").get_by_text("Typed offline")).to_have_count(1)
    expect(chat.get_by_role("log")).not_to_contain_text("Queued")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_used_on_a_phone_and_is_free_of_serious_faults(
    scheme: str, visitors: Callable[..., Visitor]
) -> None:
    visitor = visitors(viewport=PHONE, color_scheme=scheme, bypass_csp=True)
    page = visitor.page(f"{visitor.api}/expired?reason=invite")
    expect(page.get_by_role("img", name="Warning")).to_be_visible()
    check_accessibility(page)
    page.goto(f"{visitor.api}/demo")
    until(page, "document.querySelectorAll('.status[data-status=draft]').length === 1")
    check_accessibility(page)
