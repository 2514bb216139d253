"""lull.js as files: typed, and what is served and what is declared is made from it."""

import re
from pathlib import Path

from api.composition import create_app
from tests.browser.node_tools import MINIFIED, TYPES, declared, minified
from tests.calls import settings
from tests.in_process import client_of

BUILD = "run `python -m tests.browser.build`"


def test_its_types_are_checked_and_are_the_declared_ones(tmp_path: Path) -> None:
    assert TYPES.read_text() == declared(tmp_path), BUILD


def test_what_is_served_is_made_from_it_and_small() -> None:
    assert MINIFIED.read_text() == minified(), BUILD
    with client_of(create_app(settings())) as api:
        answer = api.get("/lull.js")
        again = api.get("/lull.js", headers={"If-None-Match": answer.headers["etag"]})
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.text == MINIFIED.read_text()
    assert len(re.sub(r"/\*.*?\*/", "", answer.text, flags=re.DOTALL).encode()) <= 12 * 1024
    assert not re.search(r"^import|\bimport\(", answer.text, re.MULTILINE)
    assert (again.status_code, again.content) == (304, b"")
