"""Files in SQL as the service registers and completes them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.sql.driver import Connection, call, scalar

SERVICE = {"service": True}
MIB = 1024 * 1024


def register(db: Connection, session: str, *, most: int = 20, **changes: Any) -> str:
    """Register a file whose upload URL is good for two hours; return its id."""
    file = str(uuid4())
    expires = scalar(db, "select now() + interval '2 hours'")
    arguments = {
        "p_session": session, "p_caller": SERVICE, "p_file": file, "p_name": "Ada.png", "p_content_type": "image/png",
        "p_size": MIB, "p_bucket": "session-files", "p_path": f"sessions/{session}/{file}/Ada.png",
        "p_upload_expires_at": expires, "p_most_files": most,
    }  # fmt: skip
    call(db, "lull_register_file", **arguments | changes)
    return file


def complete(
    db: Connection, session: str, file: str, size: int = MIB, kind: str = "image/png"
) -> dict[str, Any]:
    arguments = {"p_session": session, "p_file": file, "p_size": size, "p_content_type": kind}
    return call(db, "lull_complete_file", p_caller=SERVICE, **arguments)
