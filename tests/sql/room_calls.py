"""Drive the rooms' SQL as the API does, and age what is in them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.sql.driver import Connection, add_session, call, scalar

OWNER = "00000000-0000-4000-8000-00000000000a"
LIMITS = {
    "max_participants": 100, "seat_hold": 300, "interval": 30, "grace": 10, "client_hash": None,
    "anonymous_joins_per_hour": 30, "invite_failures_per_hour": 30,
}  # fmt: skip
SERVICE = {"service": True}
SENDS = """
    create schema realtime;
    create table realtime.sent (n int generated always as identity, payload jsonb, event text, topic text, private bool);
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
      language sql as 'insert into realtime.sent (payload, event, topic, private) values (payload, event, topic, private)';
"""


def open_room(db: Connection, kind: str = "room", status: str = "active", idle: str = "0", **columns: Any) -> str:
    """Insert a session of OWNER's; return its id."""
    return add_session(db, kind, status, idle, owner_id=OWNER, **columns)


def join(
    db: Connection, room: str, who: str | None = None, *, tab: str = "t1", invite: str | None = None,
    user: str | None = None, token: str | None = None, name: str | None = None, **limits: Any,
) -> dict[str, Any]:
    """Join: `who` is a person without an account, `user` one with, `token` a participant's id that was proved."""
    as_service = invite is None and user is None and token is None
    caller: dict[str, Any] = SERVICE if as_service else {"user_id": user, "token_hash": None}
    if token is not None:
        caller = caller | {"participant": token}
    given = {
        "access_method": "invite" if invite else "direct", "invite": invite, "name": name or who, "tab": tab,
        "anonymous": [who] if who else [],
    }  # fmt: skip
    return call(db, "lull_join_session", p_session=room, p_caller=caller, p_join=given, p_limits=LIMITS | limits)


def joined(db: Connection, room: str, who: str | None = None, **arguments: Any) -> str:
    """Join; return the participant's id."""
    return str(join(db, room, who, **arguments)["participant"]["id"])


def beat(db: Connection, room: str, participant: str, tab: str = "t1") -> dict[str, Any]:
    return call(db, "lull_heartbeat", p_session=room, p_participant=participant, p_tab=tab)


def leave(db: Connection, room: str, participant: str, tab: str | None = None, **timing: Any) -> Any:
    caller = {"user_id": None, "token_hash": None, "participant": participant}
    return call(db, "lull_leave_session", p_session=room, p_caller=caller, p_tab=tab, **timing)["left"]


def invite_to(db: Connection, room: str, max_uses: int | None = None, seconds: float = 3600) -> str:
    """Create an invite; return its id."""
    invite = str(uuid4())
    call(db, "lull_create_invite", p_session=room, p_caller=SERVICE, p_invite=invite, p_seconds=seconds,
        p_max_uses=max_uses)  # fmt: skip
    return invite


def people(db: Connection, room: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(db, "lull_list_participants", p_session=room, p_caller=SERVICE)["participants"]
    return found


def age(db: Connection, participant: str, by: str) -> None:
    """Make a participant's last heartbeat, and the leave of its last tab, older."""
    db.execute(
        "update lull.session_participants set last_seen_at = last_seen_at - %s::interval, "
        "leaving_at = leaving_at - %s::interval where id = %s",
        (by, by, participant),
    )


def age_room(db: Connection, room: str, by: str) -> None:
    """Make the session's own clock older."""
    db.execute("update lull.sessions set last_activity_at = last_activity_at - %s::interval where id = %s", (by, room))


def written(db: Connection, participant: str) -> float:
    """Seconds since the participant's row says that it was seen."""
    return float(scalar(db, "select extract(epoch from clock_timestamp() - last_seen_at) from lull.session_participants "
        "where id = %s", participant))  # fmt: skip


def told(db: Connection, room: str) -> list[str]:
    """The events of participants, in order: `joined`, `left seat` …"""
    rows = db.execute(
        "select substr(event, 13) as event, data ->> 'reason' as reason from lull.session_events "
        "where session_id = %s and event like 'participant.%%' order by id",
        (room,),
    )
    return [" ".join(filter(None, [row["event"], row["reason"]])) for row in rows]
