"""Users activate drafts on the edge of the cutoff while the cleanup deletes them: nobody who was told success loses."""

from __future__ import annotations

import random
import threading

from tests.sql.driver import Connection, Run, run_cleanup, scalar
from tests.sql.waiting import beside
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"
CLIENTS = 4
COUNT = 2400


def activate_all(connection: Connection, drafts: list[str], go: threading.Barrier) -> list[str]:
    """Activate each draft in its own transaction; return those that were answered with success."""
    go.wait()
    return [
        draft
        for draft in drafts
        if scalar(connection, "select lull_activate_session(%s, '{\"service\": true}')", draft)["session"]["status"]
        == "active"
    ]


def clean(connection: Connection, go: threading.Barrier) -> int:
    """Run the cleanup again and again until the drafts are gone or active; return how many it took."""
    go.wait()
    taken = 0
    for _ in range(12):
        taken += sum(entry["did"] for entry in run_cleanup(connection, DRAFTS, size=60)["policies"])
    return taken


def test_every_activation_that_was_told_success_exists_afterwards_exactly_once(
    sql_database: Database,
) -> None:
    db = sql_database.connect()
    db.execute(
        "insert into lull.sessions (kind, last_activity_at) "
        "select 'chat', now() - interval '24 hours' + (n - 1600) * interval '1 millisecond' from generate_series(1, %s) n",
        [COUNT],
    )
    db.execute(
        "insert into lull.session_participants (session_id, last_seen_at) "
        "select id, now() - interval '9 days' from lull.sessions"
    )
    drafts = [str(row["id"]) for row in db.execute("select id from lull.sessions order by last_activity_at desc")]
    shares = [drafts[client::CLIENTS] for client in range(CLIENTS)]
    for share in shares[1:]:
        random.Random(7).shuffle(share)
    go = threading.Barrier(CLIENTS + 1)
    with beside() as start:
        users = [start(activate_all, sql_database.connect(), share, go) for share in shares]
        cleaner = start(clean, sql_database.connect(), go)
        told = [draft for user in users for draft in user.result()]
        taken = cleaner.result()
    assert sorted(told) == sorted(drafts), "nobody was refused, and a deadlock would have raised"
    active = db.execute(
        "select id::text from lull.sessions where status = 'active' and first_message_at is not null"
    ).fetchall()
    assert sorted(row["id"] for row in active) == sorted(drafts)
    assert scalar(db, "select count(*) from lull.session_participants") == COUNT
    assert scalar(db, "select count(*) from lull.session_events where event = 'activated'") == COUNT
    assert taken > 0, "the cleanup did meet them"
    assert scalar(db, "select count(*) from lull.session_events where event = 'restored'") == taken
    assert scalar(db, "select count(*) from lull.archive_keys") == 0


def test_a_deadlock_by_children_locked_first_is_never_the_users(sql_database: Database) -> None:
    """Somebody's own SQL may lock a child and then its session: the cleanup gives way, the user's statement works."""
    db, user = sql_database.connect(), sql_database.connect()
    db.execute("insert into lull.sessions (kind, last_activity_at) values ('chat', now() - interval '2 days')")
    db.execute(
        "insert into lull.session_participants (session_id, last_seen_at) "
        "select id, now() - interval '9 days' from lull.sessions"
    )
    run = Run.begin(sql_database.connect(), DRAFTS)
    run.open(DRAFTS)
    user.execute("begin")
    user.execute("update lull.session_participants set name = 'me'")
    assert run.batch(DRAFTS)["deleted"] == 0, "the batch does not wait for the child, and lets its session go"
    user.execute("set lock_timeout = '5s'")
    user.execute("update lull.sessions set title = 'mine'")
    user.execute("commit")
    assert scalar(db, "select title from lull.sessions") == "mine"
