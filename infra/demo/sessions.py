"""About 2,000 example sessions: every kind, status and age, with participants and files."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import psycopg

Connection = psycopg.Connection[Any]

BUCKET = "session-files"
_NAMES = ("Ada", "Grace", "Linus", "Radia", "Alan", "Barbara", "Edsger", "Hedy", "Ken", "Margaret")
_TITLES = {
    "chat": ("Holiday plans", "Tax question", "Bug in the importer", "Dinner for six"),
    "room": ("Evening reading", "Design review", "Book club", "Pair programming", "Standup"),
    "game": ("Lost Mine", "Two-player words", "Castle siege", "Quiz night", "Heist"),
}
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Group:
    """Similar sessions: their number, idle time (from, to), and why they stay (None: they are deleted)."""

    count: int
    kind: str
    status: str
    idle: tuple[timedelta, timedelta]
    stays: str | None
    hold: bool = False


GROUPS = (
    Group(410, "chat", "draft", (24 * _HOUR + 3 * _MINUTE, 20 * _DAY), None),
    Group(135, "game", "active", (31 * _MINUTE, 3 * _DAY), None),
    Group(90, "room", "active", (61 * _MINUTE, 2 * _DAY), None),
    Group(330, "chat", "draft", (timedelta(0), 23 * _HOUR), "fresh draft (used in the last 24 h)"),
    Group(560, "chat", "active", (timedelta(0), 200 * _DAY), "active chat (has a message)"),
    Group(70, "game", "active", (timedelta(0), 28 * _MINUTE), "fresh game (used in the last 30 min)"),
    Group(60, "room", "active", (timedelta(0), 55 * _MINUTE), "fresh room (used in the last hour)"),
    Group(45, "chat", "paused", (2 * _DAY, 90 * _DAY), "paused"),
    Group(70, "game", "paused", (2 * _DAY, 90 * _DAY), "paused"),
    Group(90, "chat", "ended", (2 * _DAY, 90 * _DAY), "ended (kept as history)"),
    Group(80, "game", "ended", (2 * _DAY, 90 * _DAY), "ended (kept as history)"),
    Group(40, "room", "ended", (2 * _DAY, 90 * _DAY), "ended (kept as history)"),
    Group(25, "chat", "draft", (2 * _DAY, 60 * _DAY), "on hold (by an operator)", hold=True),
    Group(15, "room", "active", (2 * _DAY, 60 * _DAY), "on hold (by an operator)", hold=True),
)
# Archived by a run eight days ago: the restore window has closed, so they are purged with their bytes.
LAST_WEEK = Group(60, "chat", "draft", (25 * _HOUR, 5 * _DAY), None)
USER_SESSIONS = {"stale": 150, "fresh": 80}


def load(connection: Connection, storage: httpx.Client, groups: Sequence[Group], seed: int = 2026) -> int:
    """Insert the groups' sessions with participants and files, bytes included; return how many sessions.

    Sessions are inserted with old clocks, because no function of Lull moves a clock back.
    """
    chance = random.Random(seed)  # noqa: S311 - the same sessions every time
    total = 0
    for group in groups:
        for _ in range(group.count):
            idle = group.idle[0] + (group.idle[1] - group.idle[0]) * chance.random()
            session = _insert(connection, group, idle, chance)
            people = 1 if group.kind == "chat" else chance.randint(1, 5)
            for name in chance.sample(_NAMES, people):
                connection.execute(
                    "insert into lull.session_participants (session_id, name, joined_at, last_seen_at) "
                    "values (%(id)s, %(name)s, now() - %(idle)s, now() - %(idle)s)",
                    {"id": session, "name": name, "idle": idle},
                )
            if group.kind == "chat" and chance.random() < 0.3:
                _attach(connection, storage, session, chance)
        total += group.count
    return total


def staying() -> Mapping[str, int]:
    """Count the sessions that `load` inserts and that must stay, by reason."""
    stays: Counter[str] = Counter()
    for group in GROUPS:
        if group.stays:
            stays[group.stays] += group.count
    return stays


def load_user_sessions(connection: Connection) -> None:
    """Insert stale and fresh user sessions."""
    connection.execute(
        """insert into lull.user_sessions (namespace, user_id, data, version, updated_at)
        select 'assistant', what || ' user ' || n, jsonb_build_object('model', 'small'), md5(n::text),
          now() - case what when 'stale' then interval '30 hours' else interval '1 hour' end
        from (values ('stale', %(stale)s), ('fresh', %(fresh)s)) v (what, many),
          generate_series(1, many) n""",
        USER_SESSIONS,
    )


def _insert(connection: Connection, group: Group, idle: timedelta, chance: random.Random) -> str:
    had_message = group.status != "draft" and group.kind == "chat"
    ((found,),) = connection.execute(
        """insert into lull.sessions (kind, status, title, mode, hold, owner_id, created_at, last_activity_at,
          first_message_at, paused_at, ended_at, end_reason)
        values (%(kind)s, %(status)s, %(title)s, %(mode)s, %(hold)s, gen_random_uuid(),
          now() - %(idle)s - interval '5 minutes', now() - %(idle)s,
          case when %(message)s then now() - %(idle)s end,
          case when %(status)s = 'paused' then now() - %(idle)s end,
          case when %(status)s = 'ended' then now() - %(idle)s end,
          case when %(status)s = 'ended' then 'finished' end)
        returning id::text""",
        {
            "kind": group.kind,
            "status": group.status,
            "title": chance.choice(_TITLES[group.kind]),
            "mode": "two_player" if group.kind == "game" else None,
            "hold": group.hold,
            "idle": idle,
            "message": had_message,
        },
    )
    return str(found)


def _attach(connection: Connection, storage: httpx.Client, session: str, chance: random.Random) -> None:
    content = b"%PDF-1.7 demo " + bytes(str(chance.random()), "ascii")
    ((found,),) = connection.execute(
        """insert into lull.session_files (id, session_id, bucket, path, size, state, uploaded_at)
        select i, %s, %s, 'sessions/' || %s || '/' || i || '/notes.pdf', %s, 'uploaded', now()
        from gen_random_uuid() i
        returning path""",
        [session, BUCKET, session, len(content)],
    )
    storage.post(f"/object/{BUCKET}/{found}", content=content).raise_for_status()
