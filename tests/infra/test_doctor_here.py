"""`python -m infra doctor` finds each planted fault, here and by URL, and nothing where there is none."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from infra import migrate
from tests.broken_server import broken_server, refusing_url
from tests.calls import CLEANUP, settings
from tests.infra.doctor_calls import Report, Sql, by_url, doctor, planted
from tests.policies import FILE, policy_arguments

Doctor = Callable[..., Report]
FOREIGN_KEY = jwt.encode({"role": "service_role"}, "another-project's-secret-of-32-bytes", algorithm="HS256")
INDEX = (
    "create index sessions_abandoned_drafts on lull.sessions (last_activity_at, id) "
    "where kind = 'chat' and status = 'draft' and first_message_at is null and not hold"
)
LATE = "update lull.policies_known set since = now() - interval '31 minutes'"
NOT_LATE = "update lull.policies_known set since = now()"


@pytest.fixture
def sound(sql: Sql, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A deployment with nothing wrong, as the environment of this process names it."""
    sql.execute("select lull.apply_policies(%s)", (json.dumps(policy_arguments()),))
    sql.execute(NOT_LATE)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


@pytest.fixture
def here(sound: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Calls the doctor for the environment of this process."""
    return lambda *arguments, **more: doctor(capsys, *arguments, **more)


@pytest.fixture
def there(here: Doctor, api_server: str, live_api: httpx.Client, admin: dict[str, str]) -> Doctor:
    """Calls the doctor for the API that runs in a process of its own, and has run the cleanup."""
    assert live_api.post(CLEANUP, headers=admin).status_code == 200
    return lambda *arguments, **more: here("--url", api_server, *arguments, **more)


def test_a_sound_deployment_passes_here_and_by_url(
    here: Doctor, there: Doctor, live_api: httpx.Client, admin: dict[str, str]
) -> None:
    for report in (here(), there()):
        assert [result for result in report.results if result.status != "ok"] == []
        assert report.exit_code == 0


def test_a_deployment_that_never_ran_is_sound_until_two_intervals_have_passed(here: Doctor, sql: Sql) -> None:
    assert here().failed == set()
    with planted(sql, LATE, NOT_LATE):
        assert here("--interval", "16").failed == set()
        assert here("--interval", "15").failed == {"schedule"}


@pytest.mark.parametrize(
    ("fault", "undo", "check", "words"),
    [
        (
            "grant execute on function public.lull_stats to anon",
            "revoke execute on function public.lull_stats from anon",
            "grants",
            "public.lull_stats(integer) may be executed by anon. Fix: make migrate",
        ),
        (
            "drop index lull.sessions_abandoned_drafts",
            INDEX,
            "indexes",
            f"sessions_abandoned_drafts is missing: what it serves reads whole tables. Fix: {INDEX}",
        ),
        (
            "update lull.policies set age = interval '48 hours' where name = 'empty-rooms'",
            "update lull.policies set age = interval '1 hour' where name = 'empty-rooms'",
            "policies",
            "empty-rooms: age is 48:00:00 in the database and 01:00:00 in the file.",
        ),
        (
            "alter table lull.session_files disable trigger queue_deleted_file",
            "alter table lull.session_files enable trigger queue_deleted_file",
            "functions",
            "The trigger queue_deleted_file is disabled.",
        ),
        (
            "alter table lull.sessions set (autovacuum_enabled = false)",
            "alter table lull.sessions reset (autovacuum_enabled)",
            "autovacuum",
            "lull.sessions has autovacuum switched off.",
        ),
    ],
)
def test_a_fault_in_the_database_fails_its_check_alone(
    fault: str, undo: str, check: str, words: str, here: Doctor, there: Doctor, sql: Sql
) -> None:
    with planted(sql, fault, undo):
        for report in (here(), there()):
            assert report.failed == {check}
            assert words in report.says(check)
            assert report.exit_code == 1


def test_an_edited_migration_is_named(here: Doctor, there: Doctor, tmp_path: Path) -> None:
    edited = Path(shutil.copytree(migrate.SQL, tmp_path / "sql"))
    file = edited / "migrations" / "0003_session_lives.sql"
    file.write_text(file.read_text() + "\n-- one more word\n")
    for report in (here(sql=edited), there(sql=edited)):
        assert report.failed == {"migrations"}
        assert "0003_session_lives.sql was edited after it had been applied" in report.says("migrations")


def test_a_migration_and_functions_that_were_not_applied_are_named(here: Doctor, tmp_path: Path) -> None:
    newer = Path(shutil.copytree(migrate.SQL, tmp_path / "sql"))
    (newer / "migrations" / "9000_more.sql").write_text("create index more on lull.sessions (title);\n")
    core = newer / "functions" / "core" / "sessions.sql"
    core.write_text(core.read_text().replace("for no key update;", "for update;"))
    report = here(sql=newer)
    assert report.failed == {"migrations", "functions"}
    assert "9000_more.sql is not applied" in report.says("migrations")
    assert "1 are not as in this checkout: lull.lock_session" in report.says("functions")


def test_a_database_newer_than_the_checkout_is_no_failure(here: Doctor, tmp_path: Path) -> None:
    older = Path(shutil.copytree(migrate.SQL, tmp_path / "sql"))
    (older / "migrations" / "0007_health.sql").unlink()
    core = older / "functions" / "core" / "sessions.sql"
    core.write_text(core.read_text().replace("for no key update;", "for update;"))
    report = here(sql=older)
    assert report.failed == set()
    assert "The database is newer than this checkout" in report.says("migrations")


def test_a_function_that_postgrest_has_not_noticed_is_found(here: Doctor, sql: Sql, tmp_path: Path) -> None:
    newer = Path(shutil.copytree(migrate.SQL, tmp_path / "sql"))
    function = (
        "create or replace function public.lull_news()\nreturns jsonb\nlanguage sql\nsecurity definer\n"
        "set search_path = pg_catalog, pg_temp\nas $$ select '{}'::jsonb $$;\n"
    )
    (newer / "functions" / "insight" / "news.sql").write_text(function)
    rights = "revoke all on function public.lull_news from public; grant execute on function public.lull_news to service_role"
    # the local stack tells PostgREST of all DDL, which not every host does
    unseen, seen = (f"alter event trigger reload_after_{on} {{}};" for on in ("ddl", "drop"))
    off, back = (unseen.format(state) + seen.format(state) for state in ("disable", "enable"))
    with planted(sql, off + function + rights, "drop function public.lull_news;" + back):
        report = here(sql=newer)
    assert report.failed == {"schema-cache"}
    assert "PostgREST does not know lull_news" in report.says("schema-cache")


def test_what_a_browser_may_call_is_found_by_calling_it(here: Doctor, sql: Sql) -> None:
    grant, revoke = "grant execute on function {} to anon", "revoke execute on function {} from anon"
    name = "public.lull_cleanup_health"
    with planted(sql, grant.format(name), revoke.format(name)):
        assert here().failed == {"grants"}, "the function itself refuses"
    (own,) = sql.execute("select pg_get_functiondef('lull.require_server'::regproc) as text").fetchall()
    anyone = "create or replace function lull.require_server() returns name language sql as 'select ''anon''::name';"
    with planted(sql, anyone + grant.format(name), own["text"] + ";" + revoke.format(name)):
        report = here()
    assert report.failed == {"grants", "functions", "exposure"}
    assert "for those with a browser's key" in report.says("exposure")


def test_a_policies_file_that_was_changed_and_not_applied_fails(
    here: Doctor, there: Doctor, sound: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "policies.toml"
    changed.write_text(FILE.read_text().replace('restore = "7 d"', 'restore = "14 d"', 1))
    monkeypatch.setenv("POLICIES_FILE", str(changed))
    report = here()
    assert report.failed == {"policies"}
    said = "abandoned-drafts: restore_window is 7 days in the database and 14 days in the file"
    assert said in report.says("policies")
    assert there().failed == {"policy-file"}
    deployed = by_url(settings(sound, policies_file=str(changed)), policies_file=str(changed))
    assert deployed.failed == {"policies"}


def test_no_run_for_two_intervals_fails(here: Doctor, there: Doctor, sql: Sql) -> None:
    sql.execute("delete from lull.cleanup_runs")
    sql.execute(
        "insert into lull.cleanup_runs (status, caller, at, started_at, lease_seconds, lease_until, finished_at) "
        "select 'completed', 'vercel-cron', t, t, 45, t, t from (select now() - interval '31 minutes' as t) x"
    )
    of_all_policies = (
        "insert into lull.cleanup_run_policies (run_id, policy, position, definition, outcome, opened_at, completed_at) "
        "select r.id, p.name, p.position, '{}', 'completed', r.at, r.at from lull.cleanup_runs r, lull.policies p"
    )
    with planted(sql, of_all_policies, "delete from lull.cleanup_run_policies"):
        report = here()
        assert report.failed == {"schedule"}
        assert "one is expected every 15 minutes" in report.says("schedule")
        assert there().failed == {"schedule", "health"}
    assert here().failed == there().failed == set()


def test_a_scheduler_that_only_dry_runs_fails(
    there: Doctor, sql: Sql, live_api: httpx.Client, admin: dict[str, str]
) -> None:
    with planted(sql, f"delete from lull.cleanup_runs; {LATE}", NOT_LATE):
        for _ in range(2):
            assert live_api.get(CLEANUP, headers=admin).json()["dryRun"]
        report = there()
        assert report.failed == {"schedule", "health"}
        assert "GETs with a dry run since" in report.says("schedule")
        assert "let the scheduler send POST" in report.says("schedule")
        assert live_api.post(CLEANUP, headers=admin).status_code == 200
        assert there().failed == set()


def test_dry_runs_before_the_first_run_is_due_are_only_mentioned(sound: dict[str, str]) -> None:
    report = by_url(settings(sound), dry_runs=2)
    assert report.failed == set()
    assert report.says("schedule").startswith(
        "warn: 2 GETs were answered with a dry run, and no run began yet."
    )


def test_more_dry_runs_than_a_person_looks_at_before_any_run_are_a_scheduler_s(
    sound: dict[str, str],
) -> None:
    report = by_url(settings(sound), dry_runs=3)
    assert report.failed == {"schedule"}
    assert report.says("schedule").startswith("fail: 3 GETs were answered with a dry run")


@pytest.fixture
def cron(sql: Sql) -> Iterator[Sql]:
    """The tables of pg_cron, as far as they are read."""
    sql.execute("create schema cron")
    sql.execute(
        "create table cron.job (jobid serial, jobname text, schedule text, command text, active bool)"
    )
    sql.execute("create table cron.job_run_details (jobid int, runid serial, status text)")
    yield sql
    sql.execute("drop schema cron cascade")


@pytest.mark.parametrize(
    ("command", "failed"),
    [
        ("select net.http_get('https://x/api/admin/cleanup-sessions', headers => '{}')", {"schedule"}),
        ("select net.http_post('https://x/api/admin/cleanup-sessions?dryRun=true')", {"schedule"}),
        ("select net.http_post('https://x/api/admin/cleanup-sessions')", set()),
        ("select net.http_get('https://x/api/admin/cleanup-sessions?dryRun=false')", set()),
        ("select net.http_get('https://x/something-else')", set()),
    ],
)
def test_a_pg_cron_job_that_sends_a_get_only_dry_runs(
    command: str, failed: set[str], here: Doctor, cron: Sql
) -> None:
    cron.execute(
        "insert into cron.job (jobname, schedule, command, active) values ('lull', '0 2 * * *', %s, true)",
        (command,),
    )
    assert here().failed == failed


ENVIRONMENT: list[tuple[dict[str, str], str, str]] = [
    ({"SERVICE_SECRET": "short"}, "secrets", "SERVICE_SECRET is shorter than 16 characters"),
    (
        {"ENABLE_EARLY_SESSION_CREATION": "true", "NEXT_PUBLIC_ENABLE_EARLY_SESSION_CREATION": "false"},
        "flag",
        "disagree, and on needs both: early drafts are off",
    ),
    (
        {"ENABLE_EARLY_SESSION_CREATION": "True"},
        "flag",
        'ENABLE_EARLY_SESSION_CREATION is "True"; only exactly `true` counts as on',
    ),
    ({"STORAGE_BUCKET": "nowhere"}, "bucket", 'the bucket "nowhere" does not exist'),
    ({"VERCEL": "1", "USER_SESSION_STORE": "memory"}, "user-sessions", "memory on Vercel"),
    ({"EVENTS_WEBHOOK_URL": "https://example.com/hook"}, "webhook", "EVENTS_WEBHOOK_SECRET is not set"),
]


@pytest.mark.parametrize(("changes", "check", "words"), ENVIRONMENT)
def test_a_fault_in_the_environment_fails_its_check_alone(
    changes: dict[str, str],
    check: str,
    words: str,
    here: Doctor,
    sound: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    deployed = settings(sound, **{name.lower(): value for name, value in changes.items()})
    for report in (here(), by_url(deployed)):
        assert report.failed == {check}
        assert words in report.says(check)


def test_a_short_cron_secret_is_found_here_and_closes_the_deployment(
    here: Doctor, sound: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRON_SECRET", "hush-hush")
    report = here()
    assert report.failed == {"secrets"}
    assert "CRON_SECRET is shorter than 16 characters" in report.says("secrets")
    deployed = by_url(settings(sound, cron_secret="hush-hush"))
    assert deployed.failed == {"guard", "secret"}
    assert "CRON_SECRET" in deployed.says("guard")


def test_a_wrong_key_is_told_from_a_project_out_of_reach(
    here: Doctor, sound: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_SECRET_KEY", FOREIGN_KEY)
    report = here()
    assert report.failed == {"database"}
    assert "Supabase refuses this key" in report.says("database")
    assert "not checked" in report.says("bucket")
    assert report.says("migrations").startswith("ok"), "DATABASE_URL answers"
    assert by_url(settings(sound, supabase_secret_key=FOREIGN_KEY)).failed == {"database", "health"}
    monkeypatch.setenv("SUPABASE_URL", refusing_url())
    assert "Nothing that speaks PostgREST answers" in here().says("database")


def test_a_variable_that_cannot_be_read_is_a_line_and_not_a_traceback(
    here: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_TIMEOUT_MINUTES", "soon")
    report = here()
    assert report.failed == {"settings"}
    assert "SESSION_TIMEOUT_MINUTES: " in report.says("settings")
    assert report.says("grants") == "warn: not checked: the settings cannot be read Fix: None"


def test_a_policies_file_that_cannot_be_used_is_a_line(here: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICIES_FILE", "nowhere.toml")
    report = here()
    assert report.failed == {"policies"}
    assert "nowhere.toml" in report.says("policies")


def test_another_database_under_database_url_is_found(
    here: Doctor, sql: Sql, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", environment["DATABASE_URL"].rpartition("/")[0] + "/template1")
    assert "lacks functions of this release" in here().says("database-url")


@pytest.mark.parametrize(
    ("url", "check", "words"),
    [
        ("postgresql://nobody:hush@127.0.0.1:1/none", "database-url", "nothing listens there"),
        ("postgresql://nobody:hush/hush@127.0.0.1:1/none", "database-url", "its host name is unknown"),
        ("postgresql://nobody:hush%zz@127.0.0.1:1/none", "settings", "DATABASE_URL"),
    ],
)
def test_a_database_url_that_leads_nowhere_is_a_line_without_its_password(
    url: str, check: str, words: str, here: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    report = here()
    assert report.failed == {check}
    assert words in report.says(check)
    assert "hush" not in report.text


def test_a_public_bucket_and_one_that_is_too_small_are_found(
    here: Doctor, storage: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.post("/bucket", json={"name": "open", "id": "open", "public": True})
    narrow = {"name": "narrow", "id": "narrow", "file_size_limit": 1000, "allowed_mime_types": ["image/*"]}
    storage.post("/bucket", json=narrow)
    monkeypatch.setenv("STORAGE_BUCKET", "open")
    assert here().failed == {"bucket"}
    monkeypatch.setenv("STORAGE_BUCKET", "narrow")
    report = here()
    assert report.failed == set()
    assert "set MAX_FILE_BYTES=1000" in report.says("bucket")
    assert "refuses types that ALLOWED_FILE_TYPES has: application/pdf, text/plain" in report.says("bucket")


@pytest.mark.parametrize("behaviour", ["502 with HTML", "200 with a list"])
def test_something_else_in_the_place_of_supabase_is_a_line(
    behaviour: str, here: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_server(behaviour) as server:
        monkeypatch.setenv("SUPABASE_URL", server.url)
        report = here()
    assert "database" in report.failed
    assert report.failed <= {"database", "bucket"}


def test_a_database_that_does_not_answer_does_not_delay_the_doctor(here: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("http.cleanup_facts", "doctor.database_state", "doctor.check_storage"):
        monkeypatch.setattr(f"api.{module}._TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("infra.doctor.direct._SECONDS", 0.2)
    with broken_server("hangs") as server:
        monkeypatch.setenv("SUPABASE_URL", server.url)
        monkeypatch.delenv("DATABASE_URL")
        report = here()
    assert report.failed == {"database", "bucket"}
    assert "not checked" in report.says("migrations")


def test_no_secret_is_ever_shown(
    here: Doctor, sound: dict[str, str], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets: dict[str, Any] = {
        "CRON_SECRET": "hush-hush-hush-hush",
        "SERVICE_SECRET": "hush-hush-hush-hush",
        "CRON_SECRET_PREVIOUS": "hush-before-hush-before",
        "ENABLE_EARLY_SESSION_CREATION": "hush-in-the-wrong-place",
        "EVENTS_WEBHOOK_URL": "https://example.com/hook",
        "EVENTS_WEBHOOK_SECRET": "hush",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    report = here()
    assert report.failed == {"secrets", "flag", "webhook"}
    for value in (*secrets.values(), sound["SUPABASE_SECRET_KEY"], sound["SUPABASE_JWT_SECRET"]):
        assert str(value) not in report.text or str(value).startswith("https:")
