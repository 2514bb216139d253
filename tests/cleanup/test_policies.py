"""The policies file: what it means, and what is wrong with a bad one."""

from pathlib import Path

import pytest

from api.cleanup.policies import Policy, PolicyError, load_policies
from api.composition import create_app
from api.settings import Settings
from tests.calls import settings
from tests.policies import FILE, load_test_policies


def load(tmp_path: Path, text: str) -> tuple[Policy, ...]:
    file = tmp_path / "policies.toml"
    file.write_text(text)
    return load_policies(settings(policies_file=str(file)))


def changed(old: str, new: str) -> str:
    """The tests' file with the first occurrence of `old` replaced: so the first policy that has it."""
    text = FILE.read_text()
    assert old in text
    return text.replace(old, new, 1)


# What ships: name, age in hours, variable, days to restore, and the breaker's rows and growth (None: off).
SHIPPED = [
    ("abandoned-drafts", 24, "SESSION_CLEANUP_THRESHOLD_HOURS", 7, 50_000, 5),
    ("orphaned-games", 0.5, "SESSION_TIMEOUT_MINUTES", 7, 50_000, 5),
    ("empty-rooms", 1, "SESSION_TIMEOUT_HOURS", 7, 50_000, 5),
    ("unopened-rooms", 24, "SESSION_CLEANUP_THRESHOLD_HOURS", 7, 50_000, 5),
    ("unopened-games", 24, "SESSION_CLEANUP_THRESHOLD_HOURS", 7, 50_000, 5),
    ("stale-user-sessions", 24, "USER_SESSION_MAX_AGE_HOURS", 7, 50_000, 5),
    ("purge", 0, None, 0, 1_000_000, None),
    ("old-runs", 90 * 24, None, 0, 1_000_000, None),
    ("old-events", 400 * 24, None, 0, 1_000_000, None),
    ("old-idempotency-keys", 24, None, 0, 1_000_000, None),
    ("old-deliveries", 30 * 24, None, 0, 1_000_000, None),
    ("old-commands", 7 * 24, None, 0, 1_000_000, None),
    ("old-instances", 7 * 24, None, 0, 1_000_000, None),
    ("old-displacements", 24, None, 0, 1_000_000, None),
    ("expired-uploads", 1, None, 0, 50_000, 5),
    ("old-rate-counters", 1, None, 0, 1_000_000, None),
    ("expired-user-sessions", 0, None, 0, 1_000_000, None),
    ("deleted-items", 7 * 24, None, 0, 1_000_000, None),
    ("old-feedback", 400 * 24, None, 0, 1_000_000, None),
    ("lost-companions", 24, None, 7, 50_000, 5),
]


def shipped() -> tuple[Policy, ...]:
    return load_policies(Settings())


def test_the_shipped_policies_are_these() -> None:
    """The one test that states the defaults: all others run with tests/policies.toml."""
    assert [
        (each.name, each.age / 3600, each.age_variable, each.restore_days, each.max_rows, each.growth_factor)
        for each in shipped()
    ] == SHIPPED


def test_the_policies_of_the_tests_take_the_rows_of_the_shipped_ones() -> None:
    """Only ages, windows and limits are the tests' own: a new policy comes into tests/policies.toml too."""
    own = {"age", "restore", "max_rows", "growth_factor", "growth_floor", "max_percent", "max_cascaded"}
    ours, theirs = ([each.model_dump(exclude=own) for each in found] for found in (load_test_policies(), shipped()))
    assert ours == theirs


def test_a_policy_travels_as_the_sql_takes_it() -> None:
    assert load_policies(settings())[0].arguments() == {
        "name": "abandoned-drafts",
        "reason": "draft without a message",
        "target": "lull.sessions",
        "clock": "last_activity_at",
        "equals": {"kind": "chat", "status": "draft"},
        "nulls": ["first_message_at"],
        "age_seconds": 86400,
        "archive": True,
        "restore_days": 7,
        "max_rows": 50_000,
        "growth_factor": 5,
        "growth_floor": 1000,
        "max_percent": None,
        "max_cascaded": 1_000_000,
        "also_clocks": [],
        "below": {},
        "max_below_root": 20_000,
        "max_below_bytes": 64 * 1024 * 1024,
        "warn_seconds": None,
        "least_age_seconds": 360,
        "age_is_simulated": False,
    }


def test_the_environment_overrides_each_age_of_its_own() -> None:
    given = settings(
        session_cleanup_threshold_hours=48,
        session_timeout_minutes=45,
        session_timeout_hours=2,
        user_session_max_age_hours=0.5,
    )
    assert [policy.age / 3600 for policy in load_policies(given)][:6] == [48, 0.75, 2, 48, 48, 0.5]


def test_values_keep_their_type(tmp_path: Path) -> None:
    text = changed('{ kind = "chat", status = "draft" }', '{ text = "1", number = 1, yes = true }')
    equals = load(tmp_path, text)[0].equals
    assert [type(value) for value in equals.values()] == [str, int, bool]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('age = "24 h"', 'age = "-24 h"', "abandoned-drafts: age: must not be negative"),
        ('age = "24 h"', 'age = "a day"', "abandoned-drafts: age: must be a number and a unit"),
        ('age = "24 h"', "age = 24", "abandoned-drafts: age: must be a number and a unit"),
        ('age = "30 min"', 'age = "30 m"', "orphaned-games: age: must be a number and a unit"),
        ('age = "24 h"', 'age = "99999999 d"', "abandoned-drafts: age: must not be more than 100 years"),
        ('age = "24 h"\n', "", "abandoned-drafts: age: Field required"),
        ('restore = "7 d"', 'restore = "36 h"', "abandoned-drafts: restore: must be whole days"),
        ('restore = "7 d"', "archive = false\nrestore = '7 d'", "abandoned-drafts: needs `restore"),
        ('restore = "7 d"', "", "abandoned-drafts: needs `restore"),
        ('clock = "last_activity_at"', 'clok = "last_activity_at"', "abandoned-drafts: clok: unknown key"),
        ('target = "lull.sessions"', 'target = "sessions"', "abandoned-drafts: target: "),
        ('name = "empty-rooms"', 'name = "Empty Rooms"', "Empty Rooms: name: "),
        ('name = "empty-rooms"', 'name = "orphaned-games"', "orphaned-games: there are two policies"),
        ('name = "empty-rooms"\n', "", "policy 3: name: Field required"),
        ('kind = "chat"', "kind = 1.5", "abandoned-drafts: equals: kind"),
        ("max_rows = 1_000_000", "max_rows = 0", "purge: max_rows: "),
        ("max_rows = 1_000_000", 'max_rows = "none"', "purge: max_rows: "),
        ('growth_factor = "none"', "growth_factor = 1", "purge: growth_factor: "),
        ('"SESSION_TIMEOUT_HOURS"', '"SESSION_TIMEOUT_DAYS"', "empty-rooms: age_variable: must be one of"),
        ('growth_factor = "none"', "growth_factor = inf", "purge: growth_factor: "),
        ('growth_factor = "none"', "growth_factor = nan", "purge: growth_factor: "),
        ('growth_factor = "none"', "growth_factor = 1e300", "purge: growth_factor: "),
        ('growth_factor = "none"', "max_percent = inf", "purge: max_percent: "),
        ('growth_factor = "none"', "max_percent = nan", "purge: max_percent: "),
        ("max_rows = 1_000_000", "max_rows = 9223372036854775808", "purge: max_rows: "),
        ("max_rows = 1_000_000", "growth_floor = 9223372036854775808", "purge: growth_floor: "),
        ("max_rows = 1_000_000", "max_cascaded = 9223372036854775808", "purge: max_cascaded: "),
        ('kind = "chat"', "kind = 9223372036854775808", "abandoned-drafts: equals: kind"),
        ('kind = "chat"', 'kind = "a\\u0000b"', "abandoned-drafts: equals: kind"),
        ('kind = "chat"', '"a\\u0000b" = "chat"', "abandoned-drafts: equals: "),
        ('kind = "chat"', f'kind = "{"x" * 1001}"', "abandoned-drafts: equals: kind"),
        ('kind = "chat"', f'{"x" * 64} = "chat"', "abandoned-drafts: equals: "),
        ('["first_message_at"]', '["a\\u0000b"]', "abandoned-drafts: nulls: 0"),
        ('clock = "last_activity_at"', 'clock = "a\\u0000b"', "abandoned-drafts: clock: "),
        ('target = "lull.sessions"', 'target = "lull.a\\u0000b"', "abandoned-drafts: target: "),
        ('target = "lull.sessions"', f'target = "lull.{"x" * 64}"', "abandoned-drafts: target: "),
        ("without a message", "without a \\u0000", "abandoned-drafts: reason: "),
        ('age = "24 h"', f'age = "{"1" * 400} h"', "abandoned-drafts: age: must not be more than"),
        ("[[policy]]", "[[policies]]", "policies: unknown key"),
        ("[[policy]]", "[[policy]", "policies.toml: "),
    ],
)
def test_a_bad_file_stops_the_start_and_names_the_policy_and_the_reason(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, changed(old, new))
    assert message in str(caught.value)
    with pytest.raises(PolicyError):
        create_app(settings(policies_file=str(tmp_path / "policies.toml")))


def test_a_file_without_policies_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"^policy: "):
        load(tmp_path, "policy = []")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.toml"):
        load_policies(settings(policies_file="nowhere.toml"))
