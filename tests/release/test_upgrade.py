"""From the previous release to this one and back: nothing is lost, and either release works on the new schema.

The previous release comes from the history: its migration makes the database and its API process fills it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import monotonic

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from infra.local.postgres import UNSAFE, embedded_binaries
from infra.local.stack import LocalSupabase
from tests.callers import Headers, as_service
from tests.calls import CLEANUP
from tests.conftest import BUCKET
from tests.events.receiver import SECRET, Receiver
from tests.release.data import changes, rows_of
from tests.release.project import Project
from tests.release.releases import Release, previous_release, this_release
from tests.release.traffic import Traffic
from tests.reload import wait_for_a_reload
from tests.sql.catalog import catalog
from tests.sql.driver import scalar
from tests.sql.team_tables import Snapshot
from tests.sql_servers import DEBIAN_15, Connection

KEY = "a key of the old release"
SETTINGS = {
    "ENABLE_EARLY_SESSION_CREATION": "true",
    "MAX_OPEN_DRAFTS_PER_OWNER": "0",
    "DRAFTS_PER_HOUR": "100000",
    "ACTIVE_PER_HOUR": "100000",
    "METADATA_BYTES_PER_HOUR": "0",
    "EVENTS_WEBHOOK_SECRET": SECRET,
    "EVENTS_WEBHOOK_ALLOW_PRIVATE": "true",
}


@dataclass
class Upgraded:
    """A project of the previous release, migrated to this one."""

    old: Release
    new: Release
    project: Project  # the API before it is the old release's, started before the migration
    api: httpx.Client  # this release's
    signatures: dict[str, list[Signature]]
    out_of_reach: list[str]  # helpers that a call which began before the migration can no longer call
    before: Snapshot
    after: Snapshot
    archived: list[tuple[str, Headers]]
    purged: tuple[str, Headers]
    keyed: str
    url: str

    def deploy(self, release: Release) -> str:
        """Migrate to a release. Returns what was said."""
        done = release.migrate(self.url)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def migrate(self, release: Release) -> str:
        """Migrate to a release, and wait until PostgREST has seen it. Returns what was said."""
        said = self.deploy(release)
        wait_for_a_reload(self.project.sql, self.project.environment)
        return said


@dataclass(frozen=True)
class Signature:
    """How a function can be called."""

    arguments: tuple[str, ...]
    optional: int
    returns: str
    granted: bool


def signatures_of(connection: Connection) -> dict[str, list[Signature]]:
    """The functions of schema public, by name."""
    rows = connection.execute("""
        select p.proname as name, p.pronargdefaults as optional, p.prorettype::regtype::text as returns,
          has_function_privilege('service_role', p.oid, 'execute') as granted,
          coalesce((select array_agg(coalesce(p.proargnames[n], '') || ' ' || format_type(t, null) order by n)
            from unnest(p.proargtypes) with ordinality a (t, n)), '{}') as arguments
        from pg_proc p where p.pronamespace = 'public'::regnamespace
    """).fetchall()
    found: dict[str, list[Signature]] = {}
    for row in rows:
        signature = Signature(tuple(row["arguments"]), row["optional"], row["returns"], row["granted"])
        found.setdefault(row["name"], []).append(signature)
    return found


def helpers_of(connection: Connection) -> dict[str, int]:
    """The functions of schema lull, by name and arguments."""
    rows = connection.execute(
        "select oid::regprocedure::text as name, oid::int from pg_proc where pronamespace = 'lull'::regnamespace"
    )
    return {row["name"]: row["oid"] for row in rows}


@pytest.fixture(scope="module", params=[embedded_binaries(), DEBIAN_15], ids=["postgres18", "postgres15"])
def upgraded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    """A database that the previous release made and filled, then migrated to this release."""
    folder = tmp_path_factory.mktemp("upgrade")
    old, new = previous_release(folder / "previous"), this_release()
    if not (request.param / "postgres").exists():
        pytest.skip(f"no Postgres in {request.param} (Debian: apt-get install postgresql-15)")
    with ExitStack() as running:
        start = running.enter_context
        receiver = start(Receiver().listening())
        stack = start(
            LocalSupabase(
                folder / "lull",
                environ=os.environ,
                prepare=old.migrate,
                postgres_binaries=request.param,
                postgres_settings=UNSAFE,
            )
        )
        stack.ensure_bucket(BUCKET)
        environment = stack.environment()
        settings = environment | SETTINGS | {"EVENTS_WEBHOOK_URL": receiver.url}
        sql = start(psycopg.connect(stack.database_url, autocommit=True, row_factory=dict_row))
        project = Project(start(old.serving(settings, folder / "old.log")), sql, environment, receiver)
        archived, purged, keyed = fill(project)
        signatures, helpers, before = signatures_of(sql), helpers_of(sql), rows_of(sql)
        assert [table for table, rows in before.items() if not rows] == [], "every table is looked at"
        done = new.migrate(stack.database_url)
        assert (done.returncode, done.stderr) == (0, "")
        after = rows_of(sql)
        out_of_reach = sorted(dict(helpers.items() - helpers_of(sql).items()))
        wait_for_a_reload(sql, environment)
        api = start(new.serving(settings, folder / "new.log"))
        yield Upgraded(
            old,
            new,
            project,
            api,
            signatures,
            out_of_reach,
            before,
            after,
            archived,
            purged,
            keyed,
            stack.database_url,
        )


def fill(project: Project) -> tuple[list[tuple[str, Headers]], tuple[str, Headers], str]:
    """Let the project live with the previous release; end with drafts archived and events undelivered."""
    project.has_its_own_tables()
    project.goes_through_a_day()
    project.has_what_has_no_route_yet()
    keyed = project.creates_with_a_key(KEY).json()["session"]["id"]
    purged = project.purges()
    project.receiver.answers(503)
    archived = project.abandons()
    project.cleans()
    # As a run leaves it whose Storage is down.
    project.sql.execute(
        "insert into lull.file_removals (bucket, path, attempts) values (%s, 'gone', 3)", [BUCKET]
    )
    return archived, purged, keyed


# What the migration moves: a function's entry has its new arguments, and a table that was tied in by triggers is an
# entry of lull.targets; a held row of it is an entry of lull.holds (test_adopted_before.py looks at each).
MOVED = re.compile(
    r"lull\.objects lost .*'public\.lull_|lull\.session_tables lost|lull\.targets lost .*'lull\.session_events'"
    r"|lull\.sessions (lost|gained) .*'hold': "
)


def test_the_migration_keeps_every_row(upgraded: Upgraded) -> None:
    assert [line for line in changes(upgraded.before, upgraded.after) if not MOVED.match(line)] == []
    ids = [sorted(str(row["id"]) for row in rows["lull.sessions"]) for rows in (upgraded.before, upgraded.after)]
    assert ids[0] == ids[1], "each session is there, or is the companion of a row"


def test_running_it_again_changes_nothing(upgraded: Upgraded) -> None:
    sql = upgraded.project.sql
    made, rows = catalog(sql), rows_of(sql)
    assert "applied" not in upgraded.migrate(upgraded.new)
    assert catalog(sql) == made
    assert rows_of(sql) == rows


def test_what_the_old_release_calls_can_still_be_called(upgraded: Upgraded) -> None:
    """By name and by position: the arguments it knows come first, and any other can be left out."""
    now = signatures_of(upgraded.project.sql)
    for name, [was] in upgraded.signatures.items():
        assert len(now.get(name, [])) == 1, f"{name}: one signature per name"
        [is_] = now[name]
        known = len(was.arguments)
        assert is_.arguments[:known] == was.arguments, name
        assert len(is_.arguments) - is_.optional <= known - was.optional, name
        assert (is_.returns, is_.granted) == (was.returns, was.granted), name


def test_a_call_in_flight_finds_every_helper_of_the_old_release(upgraded: Upgraded) -> None:
    """Who changes how a helper is called, or what it returns, gives it another name or another number of arguments."""
    called_by_people = ("lull.adopt(", "lull.adopt_sessions(", "lull.release(")
    assert [name for name in upgraded.out_of_reach if not name.startswith(called_by_people)] == []


@pytest.mark.timeout(240)
def test_what_began_under_the_old_release_goes_on_under_this_one(upgraded: Upgraded) -> None:
    project = replace(upgraded.project, api=upgraded.api)
    (session, owner), *_ = upgraded.archived
    restored = project.api.post(f"{session}/activate", headers=owner)
    assert (restored.status_code, restored.headers["session-restored"]) == (200, "true")
    assert len(project.api.get(f"{session}/files", headers=owner).json()["files"]) == 1
    session, owner = upgraded.purged
    assert project.api.post(f"{session}/activate", headers=owner).status_code == 410
    again = project.creates_with_a_key(KEY)
    assert (again.headers["idempotency-replayed"], again.json()["session"]["id"]) == ("true", upgraded.keyed)
    project.goes_through_a_day()


@pytest.mark.timeout(240)
def test_the_old_api_works_on_the_new_schema(upgraded: Upgraded) -> None:
    api = upgraded.project.api
    assert api.get("/api/health").json() == {"status": "ok", "version": upgraded.old.version}
    assert upgraded.api.get("/api/health").json()["version"] == upgraded.new.version
    upgraded.project.goes_through_a_day()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("again", [False, True], ids=["the first time", "again"])
def test_a_deploy_fails_no_call_and_loses_nothing(upgraded: Upgraded, again: bool) -> None:
    """APIs serve and run the cleanup while this release's migration replaces the functions under them.

    The first time they are the old release's, on its own functions; again, the new one serves beside it.
    """
    upgraded.deploy(upgraded.new if again else upgraded.old)
    project = upgraded.project
    traffic, stale = busy(project, [project.api, upgraded.api if again else project.api])
    traffic.during(lambda: upgraded.deploy(upgraded.new))
    assert traffic.failed == []
    assert traffic.lost() == []
    traffic.deleted += project.cleans()["deleted"]  # what the last run had no time for
    left, archived, taken = fate(project, stale)
    assert left == set(stale[::3]), "whoever came back"
    assert archived == set(stale) - left, "whoever did not"
    assert taken == traffic.deleted


@pytest.mark.timeout(240)
def test_a_rollback_by_the_old_migration_loses_nothing(upgraded: Upgraded) -> None:
    """Release 0.1.0 drops every helper and makes it anew, and cannot be fixed any more.

    A call in flight when its migration commits may find its function gone and answer 500, and this release's cleanup
    fails until its own migration is run again. What this release archived is in pages, which 0.1.0 does not read: such
    a draft answers 404 until then (410 to a call in flight), and is there. Nothing else fails.
    """
    upgraded.deploy(upgraded.new)
    project = upgraded.project
    traffic, stale = busy(project, [project.api, upgraded.api])
    ended: list[float] = []

    def there_and_back() -> None:
        for release in (upgraded.old, upgraded.new):
            upgraded.deploy(release)
            ended.append(monotonic())

    traffic.during(there_and_back)
    rolled_back, upgraded_again = ended
    once = "select session_id::text as id from lull.session_events where event = 'archived'"
    archived_once = {row["id"] for row in project.sql.execute(once)}
    for began, said in traffic.failed:
        unread = re.search("/activate: 4(04|10) ", said) and said.split("/")[3] in archived_once
        assert unread or ": 500 " in said, said
        assert began < (upgraded_again if unread or said.startswith(CLEANUP) else rolled_back), said
    assert traffic.lost() == []
    left, archived, taken = fate(project, stale)
    assert (left | archived, left & archived) == (set(stale), set())
    assert taken >= traffic.deleted


def busy(project: Project, apis: list[httpx.Client]) -> tuple[Traffic, list[str]]:
    """Prepare traffic on the APIs, with stale drafts of which every third is returned to."""
    project.receiver.answers(204)
    project.cleans()
    stale = project.finds_stale_drafts(300)
    return Traffic(apis, project.admin, as_service(project.environment), stale[::3]), stale


def fate(project: Project, stale: list[str]) -> tuple[set[str], set[str], int]:
    """Say which of the drafts are there, which are in the archive, and how often one was taken."""
    left = {row["id"] for row in project.sql.execute("select id::text from lull.sessions")}
    archived = {
        row["key"] for row in project.sql.execute("select key from lull.archive_keys union select key from lull.archive")
    }
    taken = (
        "select count(*) from lull.session_events where event = 'archived' and session_id = any(%s::uuid[])"
    )
    return left & set(stale), archived & set(stale), scalar(project.sql, taken, stale)


@pytest.mark.timeout(240)
def test_the_sql_can_be_rolled_back_too(upgraded: Upgraded) -> None:
    """The old release's migration runs over the new schema: its functions are back, and every row is kept."""
    sql = upgraded.project.sql
    made, rows = catalog(sql), rows_of(sql)
    upgraded.migrate(upgraded.old)
    assert changes(rows, rows_of(sql)) == []
    upgraded.project.goes_through_a_day()
    rows = rows_of(sql)
    upgraded.migrate(upgraded.new)
    assert changes(rows, rows_of(sql)) == []
    assert catalog(sql) == made
