"""What the doctor says of settings and facts: the cases that need no deployment to be seen."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from api.events.webhook import create_receiver
from api.flags import create_flags
from api.insight.check_cleanup import check_deliveries, check_runs
from api.insight.check_database import check_autovacuum, check_version
from api.insight.check_flag import check_flag
from api.insight.check_settings import check_secrets, check_store, check_webhook
from api.insight.checkup import check_clock, skew_seconds
from api.insight.health import CleanupFacts
from api.insight.inspection import Inspection
from api.insight.verdict import Verdict
from tests.calls import settings

GOOD = "Zx3kP0vQ8mR5tY2wL7nB4cF6hJ9dG1sA"
AT = "2026-11-20T12:00:00Z"


def only(verdicts: list[Verdict]) -> tuple[str, str]:
    """The status and the words of the one line."""
    [verdict] = verdicts
    return verdict.status, f"{verdict.message} {verdict.mend}"


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
        ({"enable_early_session_creation": "true"}, "ok", "early drafts are on for everybody"),
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
            "on for nobody",
        ),
        (
            {"enable_early_session_creation": "true", "early_session_kill_switch": "true"},
            "warn",
            "off for everybody",
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
    verdict = check_clock("clock", "this machine", "the database", seconds)
    assert verdict.status == status
    assert words in verdict.message


def test_the_time_of_a_call_is_no_skew() -> None:
    before = datetime(2026, 11, 20, 12, tzinfo=UTC)
    after = before + timedelta(seconds=4)
    assert skew_seconds(before, before + timedelta(seconds=3), after) == 0
    assert skew_seconds(before, before - timedelta(seconds=3), after) == -3
    assert skew_seconds(before, after + timedelta(seconds=3), after) == 3


def facts(**changes: Any) -> CleanupFacts:
    known: dict[str, Any] = dict.fromkeys(CleanupFacts.model_fields)
    counts = {name: 0 for name in known if name.endswith(("failures", "policies", "files"))}
    well = {"at": AT, "interval_minutes": 15, "late": False, "lease_expired": False}
    return CleanupFacts.model_validate({**known, **counts, **well, **changes})


def inspection(**changes: Any) -> Inspection:
    known: dict[str, Any] = {
        "at": AT, "server_version": "17.6", "server_version_number": 170006, "migrations": [], "functions": {},
        "indexes": {}, "triggers": [], "grant_faults": [], "tables": [], "autovacuum": True,
        "oldest_transaction_seconds": None, "cron_jobs": None, "callers": [], "attended": {},
        "deliveries": {"pending": 0, "oldest_pending_at": None, "dead": 0},
    }  # fmt: skip
    return Inspection.model_validate({**known, **changes})


@pytest.mark.parametrize(
    ("version", "status"), [(140000, "fail"), (150000, "ok"), (180004, "ok"), (190000, "warn")]
)
def test_postgres_15_to_18(version: int, status: str) -> None:
    assert only(check_version(inspection(server_version_number=version)))[0] == status


def test_dead_rows_that_pile_up_are_a_warning() -> None:
    table = {"name": "lull.sessions", "live": 100, "limit": 70, "vacuumed_at": None, "enabled": True}
    assert only(check_autovacuum(inspection(tables=[{**table, "dead": 9_999}])))[0] == "ok"
    status, words = only(check_autovacuum(inspection(tables=[{**table, "dead": 10_001}])))
    assert status == "warn"
    assert "last vacuumed: never" in words
    assert only(check_autovacuum(inspection(tables=[{**table, "dead": 49_999, "limit": 10_000}])))[0] == "ok"
    assert only(check_autovacuum(inspection(autovacuum=False)))[0] == "fail"
    assert "2 h" in only(check_autovacuum(inspection(oldest_transaction_seconds=7200)))[1]


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
    found = only(check_runs(facts(**changes), inspection()))
    assert found[0] == status
    assert words in found[1]


def test_policies_that_no_run_took_along_are_named() -> None:
    ran = facts(last_status="completed", last_finished_at=AT)
    attended = {"empty-rooms": AT, "purge": None, "old-runs": "2026-11-20T11:29:00Z"}
    status, words = only(check_runs(ran, inspection(attended=attended)))
    assert status == "warn"
    assert "purge, old-runs" in words
    assert "empty-rooms" not in words


def test_events_that_nobody_takes_are_a_warning() -> None:
    waiting = {"pending": 3, "oldest_pending_at": "2026-11-20T05:00:00Z", "dead": 0}
    assert only(check_deliveries(inspection(deliveries=waiting)))[0] == "warn"
    assert only(check_deliveries(inspection(deliveries={**waiting, "oldest_pending_at": AT})))[0] == "ok"
    assert only(check_deliveries(inspection(deliveries={**waiting, "dead": 1})))[0] == "warn"
