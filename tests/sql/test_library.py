"""The library in SQL, when two come at once: one of them writes, and the other is told."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.scale import examples
from tests.sql.driver import Connection, Run, add_session, call, line, preview, run_cleanup, scalar
from tests.sql.waiting import beside, wait_until_blocked
from tests.sql_servers import Database

SERVICE = {"service": True}
GUILD = {"p_namespace": "guild:1", "p_caller": SERVICE}
HERO = {**GUILD, "p_key": "hero"}


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def put(db: Connection, expected: int | None, document: Any = None, **place: Any) -> int:
    """Write a document over this version (none: create); return its version."""
    document = {"by": str(uuid4())} if document is None else document
    answer = call(db, "lull_put_item", **{**HERO, **place}, p_document=document, p_expected=expected)
    return int(answer["item"]["version"])


def attempt(function: Any, *arguments: Any, **named: Any) -> str:
    """Do it, and return "done", or what it was refused with."""
    try:
        function(*arguments, **named)
    except psycopg.Error as error:
        assert error.diag.message_detail, error
        return error.diag.message_detail
    return "done"


def delete(db: Connection, expected: int | None = None) -> Any:
    return call(db, "lull_delete_item", **HERO, p_expected=expected)


def restore(db: Connection, version: int) -> Any:
    return call(db, "lull_restore_version", **HERO, p_version=version)


def raced(database: Database, rounds: int, *actions: Any) -> list[list[str]]:
    """Start the actions at once in each round, each on a connection of its own; what came of them."""
    connections = [database.connect() for _ in actions]
    start = Barrier(len(actions))

    def act(number: int, round_: int) -> str:
        start.wait()
        return attempt(actions[number], connections[number], round_)

    with ThreadPoolExecutor(len(actions)) as pool:
        return [list(pool.map(act, range(len(actions)), [n] * len(actions))) for n in range(rounds)]


def test_of_two_writes_of_one_version_one_wins_and_the_other_gets_412(sql_database: Database, db: Connection) -> None:
    put(db, None)
    rounds = examples(30)
    outcomes = raced(sql_database, rounds, *[lambda c, n: put(c, n + 1)] * 2)
    assert all(sorted(each) == ["done", "version-mismatch"] for each in outcomes)
    versions = [row["version"] for row in db.execute("select version from lull.library_versions order by 1")]
    assert versions == list(range(rounds + 2 - 20, rounds + 2)), "the last 20 are kept, whatever the number of writes"


def test_of_two_creations_one_wins_and_the_other_gets_412(sql_database: Database, db: Connection) -> None:
    outcomes = raced(sql_database, examples(20), *[lambda c, n: put(c, None, p_key=f"k{n}")] * 2)
    assert all(sorted(each) == ["done", "version-mismatch"] for each in outcomes)


def test_an_old_version_back_and_a_deletion_are_never_both_done(sql_database: Database, db: Connection) -> None:
    put(db, None)
    for _ in range(examples(20)):
        now = scalar(db, "select version from lull.library_items")
        now = put(db, now)
        outcomes = raced(
            sql_database, 1, lambda c, _n, v=now: restore(c, v - 1), lambda c, _n, v=now: delete(c, v)
        )[0]
        assert outcomes in (["done", "version-mismatch"], ["item-deleted", "done"]), outcomes
        if outcomes[1] == "done":
            call(db, "lull_undelete_item", **HERO)


def test_a_restore_waits_for_the_deletion_and_finds_it(sql_database: Database, db: Connection) -> None:
    put(db, put(db, None))
    holder, other = sql_database.connect(), sql_database.connect()
    holder.execute("begin")
    delete(holder, 2)
    with beside() as start:
        late = start(attempt, restore, other, 1)
        wait_until_blocked(db, other, holder)
        holder.execute("commit")
        assert late.result() == "item-deleted"
    assert scalar(db, "select version from lull.library_items") == 2


def test_creations_at_once_do_not_pass_the_limit(sql_database: Database, db: Connection) -> None:
    connections = [sql_database.connect() for _ in range(4)]

    def create(number: int) -> str:
        document = {"p_document": {}, "p_expected": None, "p_limits": {"most_items": 5}}
        return attempt(call, connections[number % 4], "lull_put_item", **GUILD, p_key=f"k{number}", **document)

    with ThreadPoolExecutor(4) as pool:
        numbers = [list(range(lane, 16, 4)) for lane in range(4)]
        outcomes = [each for lane in pool.map(lambda lane: [create(n) for n in lane], numbers) for each in lane]
    assert (outcomes.count("done"), outcomes.count("too-many-items")) == (5, 11)


def test_two_imports_of_the_same_keys_in_other_orders_do_not_deadlock(sql_database: Database, db: Connection) -> None:
    keys = [f"k{number}" for number in range(40)]

    def bring(connection: Connection, number: int, *, backwards: bool) -> None:
        lines = [{"line": n, "key": k, "document": {"n": number, "b": backwards}} for n, k in enumerate(keys, 1)]
        lines = lines[::-1] if backwards else lines
        call(connection, "lull_import_items", **GUILD, p_lines=lines, p_replace=True)

    def write(connection: Connection, number: int) -> None:
        for key in reversed(keys):
            attempt(put, connection, number + 1, p_key=key)

    outcomes = raced(
        sql_database, 6, lambda c, n: bring(c, n, backwards=False), lambda c, n: bring(c, n, backwards=True), write
    )
    assert outcomes == [["done"] * 3] * 6


def register(db: Connection, expected: int | None, **changes: Any) -> dict[str, Any]:
    """Announce a file; its id and path."""
    file = {"id": str(uuid4()), "bucket": "b", "name": "a.png", "content_type": "image/png", "size": 3}
    file |= {"sha256": "00" * 32, **changes}
    file["path"] = f"library/{file['id']}/a.png"
    expires = scalar(db, "select now() + interval '2 hours'")
    arguments = {"p_expected": expected, "p_file": file, "p_upload_expires_at": expires}
    assert call(db, "lull_register_item_file", **HERO, **arguments)["registered"]
    return file


def complete(db: Connection, file: dict[str, Any]) -> dict[str, Any]:
    found = {"p_file": file["id"], "p_size": 3, "p_content_type": "image/png"}
    item: dict[str, Any] = call(db, "lull_complete_item_file", **HERO, **found)["item"]
    return item


def removals(db: Connection) -> set[str]:
    """The paths of files whose bytes are queued; what is at upload paths is queued from the start."""
    return {row["path"] for row in db.execute("select path from lull.file_removals where path !~ '^uploads/'")}


def test_a_path_is_queued_when_its_last_version_goes_and_not_before(db: Connection) -> None:
    file = register(db, None)
    assert complete(db, file)["version"] == 1
    for version in range(1, 21):
        put(db, version)
    assert removals(db) == {file["path"]}
    other = register(db, 21, sha256="11" * 32)
    complete(db, other)
    put(db, 22)
    restore(db, 22)
    for version in range(24, 43):
        put(db, version)
    assert other["path"] not in removals(db), "version 24 has it still"
    assert scalar(db, "select count(*) from lull.library_versions where path is not null") == 1
    put(db, 43)
    assert removals(db) == {file["path"], other["path"]}


def test_a_file_that_was_not_completed_gives_way_to_any_other_change(db: Connection) -> None:
    first = register(db, None)
    assert attempt(call, db, "lull_get_item", **HERO) == "not-found"
    second = register(db, None)
    assert attempt(complete, db, first) == "version-mismatch"
    put(db, None)
    assert attempt(complete, db, second) == "version-mismatch"
    third = register(db, 1)
    delete(db, 1)
    assert attempt(complete, db, third) == "item-deleted"
    fourth = register(db, None)
    call(db, "lull_undelete_item", **HERO)
    assert attempt(complete, db, fourth) == "version-mismatch"
    assert removals(db) == {each["path"] for each in (first, second, third, fourth)}
    assert attempt(complete, db, {"id": str(uuid4())}) == "not-found"


def test_a_completion_and_a_write_of_one_version_come_one_after_the_other(
    sql_database: Database, db: Connection
) -> None:
    put(db, None)
    file = register(db, 1)
    holder, other = sql_database.connect(), sql_database.connect()
    holder.execute("begin")
    put(holder, 1)
    with beside() as start:
        late = start(attempt, complete, other, file)
        wait_until_blocked(db, other, holder)
        holder.execute("commit")
        assert late.result() == "version-mismatch"
    assert removals(db) == {file["path"]}


def test_the_bytes_of_a_deleted_item_are_queued_when_the_policy_takes_it(db: Connection) -> None:
    file = register(db, None)
    complete(db, file)
    put(db, 1)
    delete(db, 2)
    assert removals(db) == set()
    register(db, None, sha256="22" * 32)
    db.execute("update lull.library_items set deleted_at = now() - interval '8 days'")
    assert preview(db, "deleted-items")["would"] == 1
    report = run_cleanup(db, "deleted-items")
    assert (line(report, "deleted-items")["outcome"], scalar(db, "select count(*) from lull.library_items")) == (
        "completed",
        0,
    )
    assert scalar(db, "select count(*) from lull.library_versions") == 0
    assert len(removals(db)) == 2 and file["path"] in removals(db)


def test_an_item_that_is_undeleted_meanwhile_is_not_taken(sql_database: Database, db: Connection) -> None:
    put(db, None)
    delete(db)
    db.execute("update lull.library_items set deleted_at = now() - interval '8 days'")
    run, user = Run.begin(sql_database.connect(), "deleted-items"), sql_database.connect()
    run.open("deleted-items")
    user.execute("begin")
    call(user, "lull_undelete_item", **HERO)
    assert run.batch("deleted-items")["locked"] == 0
    user.execute("commit")
    run.drain("deleted-items")
    run.finish()
    assert call(db, "lull_get_item", **HERO)["item"]["version"] == 1


def test_a_removal_of_a_path_that_a_version_has_is_cancelled(db: Connection) -> None:
    file = register(db, None)
    complete(db, file)
    db.execute("insert into lull.file_removals (bucket, path) values ('b', %s)", [file["path"]])
    run = Run.begin(db, "purge")
    claim = {"p_run": run.id, "p_token": run.token, "p_limit": 10}
    assert call(db, "lull_claim_file_removals", **claim) == {"removals": [], "cancelled": 1}
    run.finish()


def test_what_a_session_used_goes_and_comes_back_with_it(db: Connection) -> None:
    put(db, None)
    session = add_session(db, idle="1 hour")
    used = {"p_session": session, "p_caller": SERVICE, "p_namespace": "guild:1", "p_key": "hero"}
    assert call(db, "lull_use_item", **used)["noted"]
    before = call(db, "lull_list_session_items", p_session=session, p_caller=SERVICE)
    db.execute("update lull.sessions set last_activity_at = now() - interval '25 hours'")
    assert line(run_cleanup(db, "abandoned-drafts"), "abandoned-drafts")["did"] == 1, "a note keeps no session"
    assert scalar(db, "select count(*) from lull.session_items") == 0
    assert attempt(call, db, "lull_use_item", **used) == "session-archived"
    call(db, "lull_activate_session", p_session=session, p_caller=SERVICE)
    assert call(db, "lull_list_session_items", p_session=session, p_caller=SERVICE) == before


def test_an_erased_users_library_is_gone_with_its_bytes_and_where_others_used_it(db: Connection) -> None:
    ada, bob = str(uuid4()), str(uuid4())
    own = {"p_namespace": f"user:{ada}", "p_caller": {"user_id": ada}}
    put(db, None, **own)
    put(db, 1, **own)
    put(db, None, p_namespace=f"user:{bob}")
    room, archived = add_session(db, owner_id=bob, idle="1 hour"), add_session(db, owner_id=bob, idle="1 hour")
    mine = add_session(db, owner_id=ada, idle="1 hour")
    for session in (room, archived):
        for user in (ada, bob):
            used = {"p_namespace": f"user:{user}", "p_key": "hero"}
            call(db, "lull_use_item", p_session=session, p_caller=SERVICE, **used)
    stale = "update lull.sessions set last_activity_at = now() - interval '25 hours' where id = any (%s::uuid[])"
    db.execute(stale, [[archived, mine]])
    run_cleanup(db, "abandoned-drafts")
    assert call(db, "lull_erase_owner", p_user=ada)["items"] == 1
    assert [row["namespace"] for row in db.execute("select namespace from lull.library_items")] == [f"user:{bob}"]
    assert [row["namespace"] for row in db.execute("select namespace from lull.session_items")] == [f"user:{bob}"]
    left = json.dumps([row["content"] for row in db.execute("select content from lull.archive_pages").fetchall()])
    events = json.dumps([row["data"] for row in db.execute("select data from lull.session_events").fetchall()])
    counters = json.dumps([row["key"] for row in db.execute("select key from lull.rate_counters").fetchall()])
    assert (ada in left, ada in events, ada in counters) == (False, False, False)
    assert call(db, "lull_activate_session", p_session=archived, p_caller=SERVICE)["missing"] == 0


def test_an_export_page_ends_at_its_bytes_and_at_its_lines(db: Connection) -> None:
    for key in ("a", "b", "c"):
        put(db, None, {"d": "x" * 2000}, p_key=key)
    pages = [
        call(db, "lull_export_items", **GUILD, p_after=after, p_limit=limit, p_bytes=most)
        for after, limit, most in ((None, 500, 6000), (None, 500, 1), ("b", 500, 10**6), (None, 3, 10**6))
    ]
    assert [([item["key"] for item in page["items"]], page["next"]) for page in pages] == [
        (["a", "b"], "b"),
        (["a"], "a"),
        (["c"], None),
        (["a", "b", "c"], None),
    ]
