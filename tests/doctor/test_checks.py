"""What the doctor says of settings and facts: the cases that need no deployment to be seen."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from api.doctor.check_cleanup import check_deliveries, check_runs, check_schedule
from api.doctor.check_database import check_autovacuum, check_grants, check_version
from api.doctor.check_flag import check_flag
from api.doctor.check_result import CheckResult
from api.doctor.check_rooms import check_sweeps
from api.doctor.check_settings import check_secrets, check_store, check_webhook
from api.doctor.examination import check_clock, skew_seconds
from api.doctor.schemas import DatabaseState
from api.events.webhook import create_receiver
from api.flags import create_flags
from api.http.cleanup_facts import CleanupFacts
from tests.calls import settings

GOOD = "Zx3kP0vQ8mR5tY2wL7nB4cF6hJ9dG1sA"
AT = "2026-11-20T12:00:00Z"


def only(results: list[CheckResult]) -> tuple[str, str]:
    """The status and the words of the one line."""
    [result] = results
    return result.status, f"{result.message} {result.fix}"


@pytest.mark.parametrize(
    ("secret", "status", "words"),
    [
        (GOOD, "ok", "CRON_SECRET set"),
        ("0123456789abcdef" * 2, "fail", "repetition"),
        ("9f86d081884c7d659a2feaa0c55ad015", "ok", ""),
        ("a" * 16, "fail", "repetition"),
        ("abcabcabcabcabcabc", "fail", "repetition"),
        ("abcdabdcacbdbacdbcda", "fail", "only 4 different characters"),
        ("changeme-changeme-now", "fail", "placeholder"),
        ("your-secret-goes-here", "fail", "placeholder"),
        ("my-cron-secret-2026!", "warn", "made up by a person"),
        ("8472038475610293847562", "warn", "made up by a person"),
        ("short", "fail", "shorter than 16"),
        (None, "fail", "is not set"),
    ],
)
def test_a_secret_is_long_and_random(secret: str | None, status: str, words: str) -> None:
    found = only(check_secrets(settings(cron_secret=secret)))
    assert found[0] == status
    assert words in found[1]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"service_secret": GOOD}, "fail", "CRON_SECRET and SERVICE_SECRET are the same value"),
        ({"supabase_secret_key": GOOD}, "fail", "CRON_SECRET and SUPABASE_SECRET_KEY are the same value"),
        ({"cron_secret_previous": GOOD[::-1]}, "warn", "CRON_SECRET_PREVIOUS is still set"),
        ({"cron_secret_previous": GOOD}, "warn", "it is the same as CRON_SECRET"),
        ({"supabase_secret_key": "sb_publishable_abc"}, "fail", "it is one for browsers"),
        (
            {"supabase_secret_key": "eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYW5vbiJ9."},
            "fail",
            "it is one for browsers",
        ),
        ({"supabase_secret_key": "a.b.c"}, "fail", "no key at all"),
        ({"supabase_secret_key": "sb_secret_abc"}, "ok", ""),
    ],
)
def test_each_secret_has_one_purpose(changes: dict[str, Any], status: str, words: str) -> None:
    found = only(check_secrets(settings(cron_secret=GOOD, **changes)))
    assert found[0] == status
    assert words in found[1]
    assert GOOD not in found[1]


def test_a_legacy_key_of_a_hosted_project_is_mentioned() -> None:
    key = "eyJhbGciOiJub25lIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIn0."
    hosted = settings(cron_secret=GOOD, supabase_secret_key=key, supabase_url="https://abcdefgh.supabase.co")
    assert only(check_secrets(hosted))[0] == "warn"


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, "ok", "early drafts are off (the flag is not set)"),
        ({"enable_early_session_creation": "false"}, "ok", "early drafts are off"),
        ({"enable_early_session_creation": "true"}, "ok", "early drafts are on for all callers"),
        ({"next_public_enable_early_session_creation": "True"}, "fail", "only exactly `true` counts as on"),
        ({"enable_early_session_creation": "1"}, "fail", "only exactly `true`"),
        ({"enable_early_session_creation": "sb_secret_x"}, "fail", "is neither true nor false"),
        ({"enable_early_session_creation": "False"}, "warn", "early drafts are off"),
        (
            {"enable_early_session_creation": "false", "next_public_enable_early_session_creation": "true"},
            "fail",
            "disagree",
        ),
        ({"early_session_rollout_percent": "10"}, "warn", "begin the rollout"),
        (
            {"enable_early_session_creation": "true", "early_session_rollout_percent": "12.5"},
            "ok",
            "on for 12.5 % of callers",
        ),
        (
            {"enable_early_session_creation": "true", "early_session_rollout_percent": "0"},
            "ok",
            "on for no callers",
        ),
        (
            {"enable_early_session_creation": "true", "early_session_kill_switch": "true"},
            "warn",
            "off for all callers",
        ),
        ({"flag_provider": "nothing:Provider"}, "fail", "FLAG_PROVIDER"),
        ({"flag_provider": "builtins:dict"}, "ok", "the provider builtins:dict decides"),
    ],
)
def test_the_flag_is_said_in_words(changes: dict[str, Any], status: str, words: str) -> None:
    chosen = settings(**changes)
    found = only(check_flag(chosen, partial(create_flags, chosen)))
    assert found[0] == status
    assert words in found[1]
    assert "sb_secret" not in found[1]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"user_session_store": "memory"}, "warn"),
        ({"user_session_store": "memory", "vercel": "1"}, "fail"),
        ({"user_session_store": "memory", "aws_lambda_function_name": "lull"}, "fail"),
        ({"user_session_store": "postgres", "vercel": "1"}, "ok"),
    ],
)
def test_memory_is_no_store_where_processes_come_and_go(changes: dict[str, Any], status: str) -> None:
    assert only(check_store(settings(**changes)))[0] == status


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, "ok", "none"),
        ({"events_webhook_url": "https://example.com"}, "fail", "EVENTS_WEBHOOK_SECRET is not set"),
        ({"events_webhook_secret": "whsec_x"}, "warn", "EVENTS_WEBHOOK_URL is not"),
        (
            {"events_webhook_url": "https://example.com", "events_webhook_secret": "hush"},
            "fail",
            "must be whsec_",
        ),
        (
            {"events_webhook_url": "https://example.com", "events_webhook_secret": f"whsec_{GOOD}"},
            "ok",
            "signed",
        ),
    ],
)
def test_a_webhook_has_an_address_and_a_secret(changes: dict[str, Any], status: str, words: str) -> None:
    chosen = settings(**changes)
    found = only(check_webhook(chosen, partial(create_receiver, chosen)))
    assert found[0] == status
    assert words in found[1]
    assert "hush" not in found[1]


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [
        (0.0, "ok", "agree"),
        (5.0, "ok", "agree"),
        (-6.0, "warn", "6 s behind that of this machine"),
        (60.0, "warn", "60 s ahead of that of this machine"),
        (61.0, "fail", "ahead of"),
    ],
)
def test_clocks_that_disagree_are_named(seconds: float, status: str, words: str) -> None:
    result = check_clock("clock", "this machine", "the database", seconds)
    assert result.status == status
    assert words in result.message


def test_the_time_of_a_call_is_no_skew() -> None:
    before = datetime(2026, 11, 20, 12, tzinfo=UTC)
    after = before + timedelta(seconds=4)
    assert skew_seconds(before, before + timedelta(seconds=3), after) == 0
    assert skew_seconds(before, before - timedelta(seconds=3), after) == -3
    assert skew_seconds(before, after + timedelta(seconds=3), after) == 3


def facts(**changes: Any) -> CleanupFacts:
    known: dict[str, Any] = dict.fromkeys(CleanupFacts.model_fields)
    counts = {name: 0 for name in known if name.endswith(("failures", "policies", "files"))}
    well = {"at": AT, "interval_minutes": 15, "late": False, "late_policies": [], "lease_expired": False, "alerts": []}
    return CleanupFacts.model_validate({**known, **counts, **well, **changes})


def database_state(**changes: Any) -> DatabaseState:
    known: dict[str, Any] = {
        "at": AT, "server_version": "17.6", "server_version_number": 170006, "migrations": [], "functions": {},
        "indexes": {}, "triggers": [], "grant_faults": [], "tables": [], "autovacuum": True,
        "oldest_transaction_seconds": None, "cron_jobs": None, "callers": [], "attended": {},
        "deliveries": {"pending": 0, "oldest_pending_at": None, "dead": 0},
    }  # fmt: skip
    return DatabaseState.model_validate({**known, **changes})


@pytest.mark.parametrize(("version", "status"), [(140000, "fail"), (150000, "ok"), (180004, "ok"), (190000, "warn")])
def test_postgres_15_to_18(version: int, status: str) -> None:
    assert only(check_version(database_state(server_version_number=version)))[0] == status


def test_dead_rows_that_pile_up_are_a_warning() -> None:
    table = {"name": "lull.sessions", "live": 100, "limit": 70, "vacuumed_at": None, "enabled": True}
    assert only(check_autovacuum(database_state(tables=[{**table, "dead": 9_999}])))[0] == "ok"
    status, words = only(check_autovacuum(database_state(tables=[{**table, "dead": 10_001}])))
    assert status == "warn"
    assert "last vacuumed: never" in words
    assert only(check_autovacuum(database_state(tables=[{**table, "dead": 49_999, "limit": 10_000}])))[0] == "ok"
    assert only(check_autovacuum(database_state(autovacuum=False)))[0] == "fail"
    assert "2 h" in only(check_autovacuum(database_state(oldest_transaction_seconds=7200)))[1]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, "ok", "none yet"),
        ({"last_status": "completed", "last_finished_at": AT}, "ok", "completed"),
        ({"paused_since": AT}, "warn", "delete from lull.switches"),
        ({"lease_expired": True, "running_since": AT, "lease_until": AT}, "fail", "went silent"),
        (
            {"last_status": "stopped", "consecutive_failures": 1, "stopped_policies": 1},
            "fail",
            "lets it through",
        ),
        ({"dead_files": 2}, "fail", "2 files could not be removed"),
    ],
)
def test_how_the_runs_go_is_said_in_words(changes: dict[str, Any], status: str, words: str) -> None:
    found = only(check_runs(facts(**changes)))
    assert found[0] == status
    assert words in found[1]


def test_policies_that_no_run_worked_are_named_and_the_operators_looks_are_not_blamed() -> None:
    ran = facts(late=True, late_policies=["empty-rooms"], late_since="2026-11-20T11:00:00Z", last_started_at=AT)
    status, words = only(check_schedule(ran, database_state(), 1, datetime.now(UTC)))
    assert status == "fail"
    assert "none of them worked empty-rooms since 2026-11-20T11:00:00Z" in words
    assert "without ?policy=" in words
    silent = facts(late=True, late_policies=["empty-rooms"], late_since="2026-11-20T11:00:00Z")
    status, words = only(check_schedule(silent, database_state(), 1, datetime.now(UTC)))
    assert "dry runs by an operator are counted, too" in words
    assert "read the scheduler's log: no call at all" in words


def test_dead_events_are_a_warning() -> None:
    waiting = {"pending": 3, "oldest_pending_at": "2026-11-20T05:00:00Z", "dead": 0}
    assert only(check_deliveries(database_state(deliveries=waiting)))[0] == "warn"
    assert only(check_deliveries(database_state(deliveries={**waiting, "oldest_pending_at": AT})))[0] == "ok"
    assert only(check_deliveries(database_state(deliveries={**waiting, "dead": 1})))[0] == "warn"


def test_a_log_of_another_cluster_is_a_fault_that_a_migration_mends() -> None:
    restored = {"pending": 0, "oldest_pending_at": None, "dead": 0, "restored": True}
    status, words = only(check_deliveries(database_state(deliveries=restored)))
    assert status == "fail"
    assert "dump of another cluster" in words


def test_an_object_that_lost_its_mark_is_named() -> None:
    status, words = only(check_grants(database_state(unmarked=["public.fe_chat_sessions"])))
    assert status == "warn"
    assert "public.fe_chat_sessions" in words


@pytest.mark.parametrize(
    ("sweeps", "status", "words"),
    [
        ({}, "ok", "no policy warns"),
        ({"warning": ["empty-rooms"]}, "ok", "no session is active"),
        ({"warning": ["empty-rooms"], "needed": True}, "warn", "no sweep ran yet"),
        ({"warning": ["a", "b"], "needed": True, "last_started_at": "2026-11-20T11:54:59Z"}, "warn", "a, b warn"),
        ({"warning": ["a"], "needed": True, "last_started_at": "2026-11-20T11:55:01Z"}, "ok", "the last one began"),
    ],
)
def test_warnings_need_a_sweep_every_few_minutes(sweeps: dict[str, Any], status: str, words: str) -> None:
    found = only(check_sweeps(database_state(sweeps=sweeps)))
    assert found[0] == status
    assert words in found[1]
