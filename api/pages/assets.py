"""Answers with a page or a file of this package, and the policies of content that they are sent with.

`vercel build` refuses two files of a folder below api/ whose names differ in the extension only.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import Request, Response

FOLDER = Path(__file__).parent
CLIENTS = FOLDER.parent / "clients"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PAGE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin"}
_FILE = {"Cache-Control": "public, max-age=300"}


@dataclass(frozen=True)
class _Asset:
    content: bytes
    tag: str


@cache
def _read(path: Path) -> _Asset:
    content = path.read_bytes()
    return _Asset(content, f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def file_answer(request: Request, path: Path) -> Response:
    """The file with its ETag, to be kept for five minutes; 304 where the browser has it already."""
    asset = _read(path)
    headers = {**_FILE, "ETag": asset.tag}
    if asset.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=TYPES[path.suffix], headers=headers)


def page_answer(html: str, *, scripts: bool = False, connect: tuple[str, ...] = ()) -> Response:
    """A page that may load styles and pictures of its own origin only; scripts and requests only where it is said."""
    policy = {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    if scripts:
        policy |= {"script-src": "'self'", "connect-src": " ".join(["'self'", *connect])}
        policy |= {"require-trusted-types-for": "'script'"}
    headers = {"Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()), **_PAGE}
    return Response(html, media_type=TYPES[".html"], headers=headers)
