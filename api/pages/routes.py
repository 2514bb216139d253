"""GET /admin, the dashboard; /expired, where lull.js sends a page whose session is over; /lull.js; and their files."""

from html import escape
from string import Template
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response

from api.errors import Problem
from api.http.openapi import documented
from api.http.parts import Parts, parts_of
from api.http.routers import feature_router
from api.pages.assets import CLIENTS, FOLDER, file_answer, page_answer
from api.setting_types import Link

router = feature_router(tags=["pages"])

_HOUR = 3600
DASHBOARD = FOLDER / "_admin"  # without the underscore, `vercel build` would make a function of each script
_SCRIPTS = ("actions", "door", "elements", "main", "parts", "pictures", "regret")
_DASHBOARD_FILES = {"admin.css": "styles.css", **{f"{name}.js": f"{name}.js" for name in _SCRIPTS}}
_TITLES = {"invite": "This invitation link has expired", "session": "This session has expired"}
_ADVICE = {
    "invite": "Ask the person who invited you for a new link.",
    "session": "You can begin a new one at any time.",
}


def _answers(media: str, meaning: str) -> dict[str, Any]:
    """The documentation of a route that answers no JSON."""
    return {
        "response_class": Response,
        "responses": {
            200: {"description": meaning, "content": {media: {"schema": {"type": "string"}}}},
            **documented(422),
        },
    }


@router.get("/expired", **_answers("text/html", "The page."))
def show_expired_page(
    request: Request,
    reason: Annotated[str, Query(description="`invite`: it is about an invitation link.")] = "session",
) -> Response:
    """Show the page for a session that has expired, with the ways on of EXPIRED_PAGE_LINKS."""
    parts = parts_of(request)
    links = parts.settings.expired_page_links
    known = reason if reason in _TITLES else "session"
    page = Template((FOLDER / "expired.html").read_text(encoding="utf-8"))
    return page_answer(
        page.substitute(
            title=_TITLES[known],
            why=_why(_room_age_seconds(parts)),
            advice=_ADVICE[known],
            links="\n".join(_link(link, first=link is links[0]) for link in links),
        )
    )


@router.get("/admin", **_answers("text/html", "The page."))
def show_dashboard() -> Response:
    """Show the dashboard. It asks for the admin secret, and has no right without it (`docs/admin.md`)."""
    return page_answer((DASHBOARD / "page.html").read_text(encoding="utf-8"), scripts=True)


@router.get("/admin/{file}", include_in_schema=False)
def show_dashboard_file(request: Request, file: Annotated[str, Path()]) -> Response:
    """Answer a script of the dashboard, or its styles."""
    if file not in _DASHBOARD_FILES:
        raise Problem(404, "not-found", "There is nothing at this address.")
    return file_answer(request, DASHBOARD / _DASHBOARD_FILES[file])


@router.get("/lull.js", **_answers("text/javascript", "The module."))
def show_client(request: Request) -> Response:
    """Answer the client for browsers, an ES module (`docs/browser.md`)."""
    return file_answer(request, CLIENTS / "_lull.min.js")


@router.get("/lull.css", **_answers("text/css", "The styles."))
def show_styles(request: Request) -> Response:
    """Answer the styles of Lull's pages."""
    return file_answer(request, FOLDER / "styles.css")


@router.get("/lull.svg", **_answers("image/svg+xml", "The icon."))
def show_icon(request: Request) -> Response:
    """Answer the icon of Lull's pages."""
    return file_answer(request, FOLDER / "icon.svg")


def _room_age_seconds(parts: Parts) -> float | None:
    """The age after which an active room goes; None where no policy takes one."""
    ages = [
        policy["age_seconds"]
        for policy in parts.policies()
        if policy.get("equals") == {"kind": "room", "status": "active"}
    ]
    return min(ages, default=None)


def _why(seconds: float | None) -> str:
    if seconds is None:
        return "Sessions end when they were not used for a while."
    hours = seconds / _HOUR
    amount, unit = (hours, "hour") if hours >= 1 else (hours * 60, "minute")
    return f"Sessions become inactive after {amount:g} {unit}{'' if amount == 1 else 's'} of no activity."


def _link(link: Link, *, first: bool) -> str:
    style = "button" if first else "button quiet"
    return f'<li><a class="{style}" href="{escape(link.address)}">{escape(link.label)}</a></li>'
