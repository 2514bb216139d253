"""Pages of the archive: finding rows in them, batches of several pages, an owner's rows, and rows of an older release."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.driver import Run, add_session, call, run_cleanup, scalar
from tests.sql.own_tables.team import ADA, BOB, user
from tests.sql_servers import Connection

DRAFTS = "abandoned-drafts"


@pytest.fixture
def db(undone: Connection) -> Connection:
    return undone


def found(db: Connection, **arguments: Any) -> list[list[str]]:
    """Return the titles of each answer until the cursor is at its end."""
    answers, cursor = [], None
    while True:
        answer = call(db, "lull_find_archived", p_cursor=cursor, **arguments)
        answers.append([row["row"]["title"] for row in answer["archived"]])
        cursor = answer["cursor"]
        if cursor is None:
            return answers


def test_an_answer_never_exceeds_its_limit_and_the_answers_together_miss_nothing(db: Connection) -> None:
    for run in ("old", "new"):
        for number in range(5):
            add_session(db, idle=f"{50 - number} hours", title=f"{run} {number}", owner_id=ADA)
        add_session(db, title="not ours", owner_id=BOB)
        run_cleanup(db, DRAFTS)
    assert scalar(db, "select count(*) from lull.archive_pages") == 2, "each run's rows are one page"
    answers = found(db, p_owner=ADA, p_limit=3)
    assert all(len(answer) <= 3 for answer in answers)
    titles = [title for answer in answers for title in answer]
    assert sorted(titles[:5]) == [f"new {n}" for n in range(5)]
    assert sorted(titles[5:]) == [f"old {n}" for n in range(5)]
    assert [title for answer in found(db, p_owner=ADA, p_text="LD 3", p_limit=1) for title in answer] == ["old 3"]


def test_a_row_that_comes_back_between_two_answers_hides_no_other(db: Connection) -> None:
    for number in range(4):
        add_session(db, idle=f"{50 - number} hours", title=str(number))
    run_cleanup(db, DRAFTS)
    first = call(db, "lull_find_archived", p_limit=2)
    call(db, "lull_restore_key", p_target="lull.sessions", p_key=first["archived"][0]["key"])
    rest = call(db, "lull_find_archived", p_limit=2, p_cursor=first["cursor"])
    seen = [row["row"]["title"] for row in first["archived"] + rest["archived"]]
    assert sorted(seen) == ["0", "1", "2", "3"]


def test_a_batch_of_more_than_a_page_is_several_pages_and_comes_back_whole(db: Connection) -> None:
    for number in range(6):
        session = add_session(db, title=f"large {number}")
        db.execute("insert into lull.session_participants (session_id, name, last_seen_at) "
                   "values (%s, 'guest', now() - interval '2 days')", [session])  # fmt: skip
    db.execute("update lull.sessions set metadata = ("
               "select jsonb_build_object('words', jsonb_agg(md5(title || n))) from generate_series(1, 34000) n)")  # fmt: skip
    told = ("select string_agg(s::text, '' order by id) from (select id, title, metadata from lull.sessions) s",
            "select count(*) from lull.session_participants")  # fmt: skip
    before = [scalar(db, query) for query in told]
    run = Run.begin(db, DRAFTS)
    run.open(DRAFTS)
    assert run.batch(DRAFTS)["deleted"] == 6
    run.finish()
    pages = db.execute("select batch, rows from lull.archive_pages order by id").fetchall()
    assert len(pages) > 1 and len({page["batch"] for page in pages}) == 1
    assert sum(page["rows"] for page in pages) == 12
    answer = call(db, "lull_restore_run", p_run=run.id)
    assert (answer["restored"], answer["children"], answer["missing"]) == (6, 6, 0)
    assert [scalar(db, query) for query in told] == before
    assert scalar(db, "select count(*) from lull.archive_pages") == 0


def test_everything_of_an_owner_comes_back_oldest_first_and_nothing_of_others(db: Connection) -> None:
    for title, owner in (("first", ADA), ("hers", BOB), ("second", ADA), ("nobody's", None)):
        add_session(db, title=title, owner_id=owner)
        run_cleanup(db, DRAFTS)
    titles = "select array_agg(title order by title) from lull.sessions"
    answer = call(db, "lull_restore_owner", p_owner=ADA, p_limit=1)
    assert (answer["keys"], answer["restored"], answer["missing"], answer["remaining"]) == (1, 1, 0, 1)
    assert scalar(db, titles) == ["first"]
    answer = call(db, "lull_restore_owner", p_owner=ADA)
    assert (answer["keys"], answer["restored"], answer["remaining"]) == (1, 1, 0)
    assert scalar(db, titles) == ["first", "second"]
    assert [row for answer in found(db) for row in answer] == ["nobody's", "hers"]


def archive_as_before(db: Connection, session: str) -> None:
    """Archive a session with its participants as the release before did: one row, each value in its text form."""

    def in_text(table: str, alias: str) -> str:
        columns = "select attname as name from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
        names = [row["name"] for row in db.execute(columns, [table])]
        values = ", ".join(f"{alias}.{name}::text" for name in names)
        return f"jsonb_object(array[{', '.join(repr(name) for name in names)}], array[{values}])"

    db.execute(
        f"""insert into lull.archive (run_id, policy, target, key, "row", children, purge_after)
           select gen_random_uuid(), 'abandoned-drafts', 'lull.sessions', s.id::text, {in_text("lull.sessions", "s")},
             jsonb_build_array(jsonb_build_object('table', 'lull.session_participants', 'rows', (
               select jsonb_agg({in_text("lull.session_participants", "p")})
               from lull.session_participants p where p.session_id = s.id))),
             now() + interval '7 days'
           from lull.sessions s where s.id = %s""".encode(),
        [session],
    )
    db.execute("delete from lull.sessions where id = %s", [session])


@pytest.mark.parametrize("how", ["late activation", "its owner", "a run moves it first"])
def test_a_row_that_an_older_release_archived_comes_back_with_what_was_below_it(db: Connection, how: str) -> None:
    session = add_session(db, title="from before", owner_id=ADA, metadata='{"a": [1, null]}')
    db.execute("insert into lull.session_participants (session_id, name, user_id) values (%s, 'guest', %s)", [session, BOB])
    row = "select (to_jsonb(s) - '{last_activity_at,version,status,first_message_at}'::text[])::text from lull.sessions s"
    below = "select to_jsonb(p)::text from lull.session_participants p"
    before = scalar(db, row), scalar(db, below)
    archive_as_before(db, session)
    if how == "a run moves it first":
        run_cleanup(db, DRAFTS)
        assert scalar(db, "select count(*) from lull.archive") == 0
    if how == "its owner":
        answer = call(db, "lull_restore_owner", p_owner=ADA)
        assert answer["restored"] == 2, answer
    else:
        answer = call(db, "lull_activate_session", p_session=session, p_caller=user(ADA))
        assert answer["session"]["status"] == "active"
    assert (scalar(db, row), scalar(db, below)) == before
    assert scalar(db, "select (select count(*) from lull.archive) + (select count(*) from lull.archive_keys)") == 0
