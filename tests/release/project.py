"""What a project does with Lull in a day: every kind and status of session, files, cleanups, webhooks, numbers.

Written against the API and the SQL functions of the previous release, and run with either release on either schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.callers import SESSIONS, Headers, as_user, events_of, start
from tests.calls import CLEANUP
from tests.events.receiver import Receiver
from tests.sessions.file_calls import PNG, attach, download, register
from tests.sql.driver import call, scalar
from tests.sql_servers import Connection

KINDS = ("chat", "room", "game")
GAMES_OWN = {"initialized", "terminated"}  # this release's events of games, beside those of every session
# How a session's restore window is closed, where release 0.1.0 archives and where this one does.
CLOSE_WINDOW = [
    "update lull.archive set purge_after = now() - interval '1 s' where key = %s",
    """update lull.archive_pages set purge_after = now() - interval '1 s'
      where id in (select page from lull.archive_keys where key = %s)""",
]
# The calls that bring a new session into each status.
STATUSES = {
    "draft": [],
    "active": ["activate"],
    "paused": ["activate", "pause"],
    "ended": ["activate", "pause", "resume", "end"],
}
TEAM = """
    create table public.fe_chats (id uuid primary key default gen_random_uuid(), title text,
      created_at timestamptz not null default now());
    create table public.messages (id bigint generated always as identity primary key,
      chat_id uuid not null references public.fe_chats on delete cascade, body text, meta jsonb);
    create index on public.messages (chat_id);
    insert into public.fe_chats (title, created_at) select 'chat ' || n, now() - interval '9 days' from generate_series(1, 5) n;
    insert into public.messages (chat_id, body, meta) select id, 'hello', 'null' from public.fe_chats;
    create table public.things (id int primary key, tags text[], touched timestamptz default '2000-01-01');
    create index on public.things (touched);
    insert into public.things values (1, '[3:4]={a,b}'), (2, null);
"""


@dataclass
class Project:
    """A project on a database, and an API of one release or the other before it."""

    api: httpx.Client
    sql: Connection
    environment: dict[str, str]
    receiver: Receiver
    user: Headers = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.user = self.user or as_user(self.environment)
        self.admin = {"Authorization": f"Bearer {self.environment['CRON_SECRET']}"}

    def has_its_own_tables(self) -> None:
        """Tie the team's tables in, with a draft in one of them."""
        self.sql.execute(TEAM.encode())
        self.sql.execute("select lull.adopt_sessions('public.fe_chats', 'chat')")
        self.sql.execute("select lull.adopt('public.things', 'touched')")
        chat = scalar(
            self.sql, "insert into public.fe_chats (title, status) values ('new', 'draft') returning id"
        )
        self.sql.execute("insert into public.messages (chat_id, body) values (%s, 'unsent')", [chat])

    def has_what_has_no_route_yet(self) -> None:
        """Write participants, user sessions, a hold and a switch as the operators of the previous release do."""
        self.sql.execute(
            "insert into lull.session_participants (session_id, name, last_seen_at) select id, 'Ada', '2020-01-01' from lull.sessions"
        )
        self.sql.execute(
            "insert into lull.user_sessions (namespace, user_id, data, version, expires_at) "
            "values ('assistant', 'ada', '{\"model\": null}', '1', now() + interval '1 day'), ('assistant', 'bob', '{}', '1', null)"
        )
        self.sql.execute(
            "insert into lull.switches (name, is_on, reason) values ('cleanup', false, 'moved house')"
        )
        held = start(self.api, self.user, title="Held")[0].removeprefix(f"{SESSIONS}/")
        self.sql.execute("update lull.sessions set hold = true where id = %s", [held])

    def lives(self) -> None:
        """Bring sessions of each kind into each status, chats with files, and read them back."""
        for kind in KINDS:
            for status, steps in STATUSES.items():
                # Some belong to somebody without an account.
                session, owner = start(
                    self.api, self.user if status == "paused" else None, kind=kind, title=status
                )
                file = self.attaches(session, owner) if kind == "chat" else ""
                for step in steps:
                    answer = self.api.post(f"{session}/{step}", headers=owner)
                    assert answer.status_code == 200, answer.text
                shown = self.api.get(session, headers=owner).json()["session"]
                assert (shown["kind"], shown["status"], shown["title"]) == (kind, status, status)
                assert not file or download(self.api, file, owner) == PNG
        seen = [name for name in events_of(self.api, session, owner) if name not in GAMES_OWN]
        assert len(seen) == len(steps) + 1
        listed = self.api.get(SESSIONS, params={"status": "paused"}, headers=self.user).json()["sessions"]
        assert {session["kind"] for session in listed} == set(KINDS)

    def attaches(self, session: str, owner: Headers) -> str:
        """Attach a file, register one that never comes, and delete another; return the first one's address."""
        register(self.api, session, owner, name="never uploaded.png")
        other = attach(self.api, session, owner)
        assert self.api.delete(other, headers=owner).status_code == 204
        return attach(self.api, session, owner)

    def creates_with_a_key(self, key: str) -> httpx.Response:
        """Create a room under an idempotency key: the same one again, where the key is known."""
        headers = {**self.user, "Idempotency-Key": key}
        answer = self.api.post(SESSIONS, json={"kind": "room", "title": key}, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer

    def abandons(self, count: int = 3) -> list[tuple[str, Headers]]:
        """Leave drafts with a participant and a file behind, more than a day ago."""
        left = []
        for _ in range(count):
            session, owner = start(self.api)
            attach(self.api, session, owner)
            left.append((session, owner))
        ids = [session.removeprefix(f"{SESSIONS}/") for session, _ in left]
        self.sql.execute(
            "insert into lull.session_participants (session_id, last_seen_at) select unnest(%s::uuid[]), '2020-01-01'", [ids]
        )
        self.sql.execute(
            "update lull.sessions set last_activity_at = now() - interval '25 h' where id = any(%s::uuid[])",
            [ids],
        )
        return left

    def finds_stale_drafts(self, count: int) -> list[str]:
        """Have so many drafts that nobody came back to; return their ids."""
        rows = self.sql.execute(
            "insert into lull.sessions (kind, last_activity_at) "
            "select 'chat', now() - interval '25 h' from generate_series(1, %s) returning id::text",
            [count],
        )
        return [row["id"] for row in rows]

    def cleans(self) -> dict[str, Any]:
        """Run the cleanup and return its report."""
        answer = self.api.post(CLEANUP, headers=self.admin)
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        assert {line["outcome"] for line in report["policies"]} == {"completed"}
        return report

    def cleans_and_restores(self) -> None:
        """A dry run, a run, and the operator's `lull_restore_run`; one draft then comes to life."""
        left = self.abandons()
        would = self.api.get(CLEANUP, headers=self.admin).json()
        assert would["wouldDelete"] >= len(left)
        report = self.cleans()
        assert report["deleted"] == would["wouldDelete"]
        assert {self.api.get(session, headers=owner).status_code for session, owner in left} == {410}
        restored = call(self.sql, "lull_restore_run", p_run=report["runId"])
        assert (restored["restored"], restored["remaining"]) == (report["deleted"], 0)
        for session, owner in left:
            assert self.api.post(f"{session}/activate", headers=owner).json()["session"]["status"] == "active"
            assert len(self.api.get(f"{session}/files", headers=owner).json()["files"]) == 1

    def purges(self) -> tuple[str, Headers]:
        """Let the restore window of a draft close; what is left is a tombstone."""
        [(session, owner)] = self.abandons(1)
        self.cleans()
        has_pages = scalar(self.sql, "select to_regclass('lull.archive_pages') is not null")
        for statement in CLOSE_WINDOW[: 1 + bool(has_pages)]:  # an older release's migration may have run last
            self.sql.execute(statement, [session.removeprefix(f"{SESSIONS}/")])
        self.cleans()
        assert self.api.post(f"{session}/activate", headers=owner).status_code == 410
        return session, owner

    def tells(self) -> None:
        """Send what happened to the webhook, which is up and waited for, and read the numbers."""
        self.receiver.answers(204)
        self.sql.execute(
            "update lull.deliveries set due_at = now(), claimed_until = null where state = 'queued'"
        )
        report = self.api.post("/api/admin/deliver", headers=self.admin).json()
        assert (report["failed"], report["pending"]) == (0, 0)
        for numbers in ("stats", "funnel", "metrics"):
            assert self.api.get(f"/api/admin/{numbers}", headers=self.admin).status_code == 200, numbers
        assert "earlySessionCreation" in self.api.get("/api/flags").json()["flags"]

    def goes_through_a_day(self) -> None:
        """Everything above that can be done again."""
        self.lives()
        self.cleans_and_restores()
        self.purges()
        self.tells()
