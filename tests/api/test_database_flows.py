"""The API over each transport: a session's life, the cleanup's, and a return."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg

from api.composition import create_app
from api.settings import Settings
from tests.callers import SESSIONS, events_of, problem_of, start
from tests.calls import ADMIN, CLEANUP
from tests.in_process import client_of
from tests.sessions.file_calls import PNG, attach, download

STRANGER = f"{SESSIONS}/3b0c5a4e-9d41-4a39-9a43-0d6d0a0f7c11"


def test_a_draft_with_a_file_is_cleaned_and_comes_back(
    settings_for: Callable[..., Settings], transport: str, sql: psycopg.Connection[Any]
) -> None:
    metadata = {"deep": [1, {"null": None, "ö": '"\\'}]}
    with client_of(create_app(settings_for(transport, enable_early_session_creation="true"))) as api:
        draft, owner = start(api, metadata=metadata)
        file = attach(api, draft, owner)
        kept, keeper = start(api)
        assert api.post(f"{kept}/activate", headers=keeper).json()["session"]["status"] == "active"
        sql.execute("update lull.session_files set upload_expires_at = now() - interval '22 hours'")
        sql.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")

        shown = api.get(CLEANUP, headers=ADMIN).json()
        assert (shown["wouldDelete"], len(shown["sessions"])) == (1, 1)
        done = api.post(CLEANUP, headers=ADMIN)
        assert (done.status_code, done.json()["deleted"]) == (200, 1), done.text
        assert problem_of(api.get(draft, headers=owner)) == (410, "session-archived")
        assert api.get(kept, headers=keeper).status_code == 200

        back = api.post(f"{draft}/activate", headers=owner)
        assert back.headers["session-restored"] == "true"
        assert back.json()["session"]["metadata"] == metadata
        assert datetime.fromisoformat(back.json()["session"]["createdAt"]).tzinfo is not None
        assert download(api, file, owner) == PNG
        assert events_of(api, draft, owner)[-1] == "activated"


def test_refusals_and_lists_are_the_same(
    settings_for: Callable[..., Settings], transport: str, sql: psycopg.Connection[Any]
) -> None:
    service = {"Authorization": "Bearer the-service-secret-of-the-tests"}
    app = create_app(settings_for(transport, service_secret="the-service-secret-of-the-tests"))
    with client_of(app) as api:
        given = {"kind": "game", "guildId": "g", "mode": "m"}
        games = [start(api, service, **given, externalKey=str(number))[0] for number in range(3)]
        page = api.get(SESSIONS, params={"limit": 2}, headers=service).json()
        rest = api.get(SESSIONS, params={"limit": 2, "cursor": page["nextCursor"]}, headers=service).json()
        assert [f"{SESSIONS}/{one['id']}" for one in page["sessions"] + rest["sessions"]] == games[::-1]
        assert problem_of(api.get(STRANGER, headers=service)) == (404, "not-found")
        assert problem_of(api.post(f"{games[0]}/resume", headers=service)) == (409, "wrong-status")
        stale = api.post(f"{games[0]}/pause", headers=service | {"If-Match": '"99"'})
        assert problem_of(stale) == (412, "version-mismatch")
        for path in ("stats", "funnel", "metrics"):
            assert api.get(f"/api/admin/{path}", headers=ADMIN).status_code == 200
