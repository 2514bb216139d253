"""Chromium, driven by Playwright, against the API of a local Supabase, and pages that must not complain.

A browser is started once for each module: while it runs, Playwright's event loop is the thread's.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from infra.local import ports
from infra.local.demo import DATABASE_VARIABLE
from infra.local.stack import LocalSupabase, start_api
from tests import policies
from tests.browser.application import Application, serving
from tests.conftest import UNLIMITED

TIMEOUT_MS = 15_000
SERVED = ("--factory", "infra.local.api:create_app")
NAMES = ("chromium", "google-chrome", "google-chrome-stable")
LINKS = "Home=/demo, Marketplace=https://example.com/market"
# What Chromium itself says about an answer or a connection that a test has made fail.
OF_THE_BROWSER = r"Failed to load resource: (the server responded with a status of (\d+)|net::ERR_\w+)"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a module's tests."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None and os.environ.get("CI"):
        pytest.fail("there is no Chromium, and CI never goes without these tests")
    if path is None:
        pytest.skip("there is no Chromium (as root: apt-get install chromium)")
    with sync_playwright() as playwright:
        expect.set_options(timeout=TIMEOUT_MS)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def running_application() -> Iterator[Application]:
    with serving() as application:
        yield application


@pytest.fixture
def application(running_application: Application) -> Application:
    """The application of another origin, without messages."""
    running_application.forget()
    return running_application


@pytest.fixture(scope="session")
def serve_browsers(
    running_stack: LocalSupabase, running_application: Application, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """Starts the API as `make dev` does, with the demo, and with changed settings."""
    children = []

    def start(**settings: str) -> str:
        port, log = ports.find_free(), tmp_path_factory.mktemp("browsers") / "api.log"
        environment = running_stack.environment() | UNLIMITED | policies.ENVIRONMENT | {
            DATABASE_VARIABLE: running_stack.database_url,
            "CORS_ALLOWED_ORIGINS": running_application.origin,
            "EXPIRED_PAGE_LINKS": LINKS,
            **settings,
        }
        children.append(start_api(environment, port, environ=os.environ, log=log, served=SERVED))
        return f"http://{ports.HOST}:{port}"

    yield start
    for child in children:
        child.stop()


@pytest.fixture(scope="session")
def early_server(serve_browsers: Callable[..., str]) -> str:
    """The API with early sessions."""
    return serve_browsers(ENABLE_EARLY_SESSION_CREATION="true")


@pytest.fixture(scope="session")
def late_server(serve_browsers: Callable[..., str]) -> str:
    """The API without them."""
    return serve_browsers()


class Visitor:
    """A browser profile of its own, whose pages' complaints are collected."""

    def __init__(self, context: BrowserContext, application: Application, api: str) -> None:
        self.context, self.application, self.api = context, application, api
        self.complaints: list[str] = []
        self.provoked: set[str] = set()
        self.requests: list[str] = []
        context.set_default_timeout(TIMEOUT_MS)
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", lambda request: self.requests.append(f"{request.method} {request.url}"))

    def page(self, address: str) -> Page:
        """Open an address in a new tab."""
        page = self.context.new_page()
        page.goto(address)
        return page

    def app(self, **options: Any) -> Page:
        """Open the application of another origin in a new tab, and its session."""
        page = self.context.new_page()
        self.visit(page, **options)
        return page

    def visit(self, page: Page, **options: Any) -> None:
        """Load the application, and open its session."""
        page.goto(f"{self.application.origin}/?api={self.api}")
        page.wait_for_selector("html[data-ready]", state="attached")
        page.evaluate("options => begin(options)", options)

    def sent(self, method: str, end: str) -> int:
        """How many requests were made to addresses with this end."""
        return len([line for line in self.requests if line.startswith(f"{method} ") and line.endswith(end)])

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        known = re.match(OF_THE_BROWSER, message.text)
        if not known or (known[2] or known[1]) not in self.provoked:
            self.complaints.append(f"{message.text} {message.location['url']}")


@pytest.fixture
def visitors(
    chromium: Browser, stack: LocalSupabase, application: Application, early_server: str
) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors, on empty tables. At the end no page has complained of anything that no test provoked."""
    made: list[Visitor] = []

    def visitor(api: str = early_server, **options: Any) -> Visitor:
        made.append(Visitor(chromium.new_context(**options), application, api))
        return made[-1]

    yield visitor
    for each in made:
        each.context.close()
    assert [each.complaints for each in made if each.complaints] == []


@pytest.fixture
def visitor(visitors: Callable[..., Visitor]) -> Visitor:
    """A visitor of the API with early sessions."""
    return visitors()


def state_of(page: Page) -> dict[str, Any]:
    """What `lull.state` is."""
    return dict(page.evaluate("lull.state"))


def heard(page: Page, event: str) -> list[Any]:
    """What the page has heard under this event."""
    return list(page.evaluate("event => heard.filter(([name]) => name === event).map(([, detail]) => detail)", event))


def until(page: Page, expression: str, argument: Any = None) -> None:
    """Wait until an expression is true in the page."""
    page.wait_for_function(expression, arg=argument)
