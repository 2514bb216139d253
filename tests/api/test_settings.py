"""Environment variables: each named once, checked at the start, and written down in .env.example."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from api.settings import Settings, SettingsError
from infra.aws.parameters import SECRETS


def variables() -> set[str]:
    """Every name that Settings reads."""
    names: set[str] = set()
    for name, field in Settings.model_fields.items():
        choices = getattr(field.validation_alias, "choices", [name])
        names |= {choice.upper() for choice in choices}
    return names


def test_env_example_has_every_variable_and_no_other(checkout: Path) -> None:
    lines = (checkout / ".env.example").read_text().splitlines()
    written = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(written) == sorted(variables())


def test_env_example_says_something_about_every_variable(checkout: Path) -> None:
    for entry in (checkout / ".env.example").read_text().strip().split("\n\n"):
        comment, variable = entry.splitlines()
        assert comment.startswith("# ")
        assert "=" in variable


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SESSION_CLEANUP_THRESHOLD_HOURS", "0.05"),
        ("SESSION_CLEANUP_THRESHOLD_HOURS", "8761"),
        ("SESSION_CLEANUP_THRESHOLD_HOURS", "nan"),
        ("SESSION_CLEANUP_THRESHOLD_HOURS", "a day"),
        ("SESSION_TIMEOUT_MINUTES", "0"),
        ("SESSION_TIMEOUT_HOURS", "-1"),
        ("USER_SESSION_MAX_AGE_HOURS", "inf"),
        ("CLEANUP_TIME_BUDGET_SECONDS", "0"),
        ("CLEANUP_LEASE_SECONDS", "39"),
        ("CLEANUP_LEASE_SECONDS", "901"),
        ("SUPABASE_URL", "abcdefgh.supabase.co"),
        ("SUPABASE_URL", "http://127.0.0.1:99999"),
        ("SUPABASE_URL", "http://127.0.0.1:port"),
        ("SUPABASE_URL", "http://[::1"),
        ("SUPABASE_URL", "http://:8000"),
        ("SUPABASE_URL", "http://127.0.0.999"),
        ("SUPABASE_URL", "https://abc\\def"),
        ("SUPABASE_URL", "https://xn--a"),
        ("SUPABASE_URL", "https://abc.supabase.co?x=1"),
        ("SUPABASE_URL", "https://abc.supabase.co/#x"),
        ("SUPABASE_URL", "https://abc. supabase.co"),
        ("DATABASE_URL", "host=127.0.0.1 dbname=postgres"),
        ("DATABASE_URL", "mysql://ada:hush@127.0.0.1/postgres"),
        ("DATABASE_URL", "postgresql://ada:hush%zz@127.0.0.1/postgres"),
        ("DATABASE_URL", "postgresql://127.0.0.1/postgres?pgbouncer=true"),
        ("DATABASE_MAX_CONNECTIONS", "0"),
        ("SESSION_TOKEN_SECRET", "too short"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_the_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        Settings.from_environ(os.environ)


@pytest.mark.parametrize(
    "url",
    ["http://abcdefgh.supabase.co", "http://10.0.0.7:8000", "http://localhost.example.com", "http://127.example.com"],
)
def test_http_to_another_machine_stops_the_start_and_says_why(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^SUPABASE_URL: .*must begin with https://; http:// is for this machine"):
        Settings.from_environ({"SUPABASE_URL": url})


@pytest.mark.parametrize(
    "url", ["https://abcdefgh.supabase.co", "http://localhost:54321", "http://127.0.0.2", "http://[::1]:8000"]
)
def test_http_is_for_loopback_and_https_for_every_address(url: str) -> None:
    assert Settings.from_environ({"SUPABASE_URL": url}).supabase_url == url


@pytest.mark.parametrize("url", ["postgresql://ada:hush%zz@127.0.0.1/x", "postgres://ada:hush@[::1/x", "hush"])
def test_a_bad_address_of_the_database_is_not_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(os.environ)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("parameter", ["pgbouncer=true", "connection_limit=1", "supa=base-pooler.x"])
def test_a_parameter_that_is_not_for_postgres_is_named(parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ada:hush@127.0.0.1/x?sslmode=require&{parameter}")
    with pytest.raises(SettingsError, match=f"the parameter {parameter.partition('=')[0]}, "):
        Settings.from_environ(os.environ)


def test_several_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    monkeypatch.setenv("SESSION_TIMEOUT_HOURS", "x")
    with pytest.raises(SettingsError, match=r"SESSION_TIMEOUT_HOURS: .*; LOG_LEVEL: "):
        Settings.from_environ(os.environ)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.setenv(name, "")
    assert Settings.from_environ(os.environ) == Settings()
    assert Settings.from_environ(os.environ).cron_secret is None


def test_the_legacy_key_serves_where_the_new_one_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "legacy")
    key = Settings.from_environ(os.environ).supabase_secret_key
    assert key is not None
    assert key.get_secret_value() == "legacy"


def test_settings_do_not_show_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_SECRET", "hush-hush-hush-hush")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_hush")
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:hush@127.0.0.1/x")
    assert "hush" not in repr(Settings.from_environ(os.environ))


def test_ages_are_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSION_TIMEOUT_MINUTES", "45")
    monkeypatch.setenv("SESSION_TIMEOUT_HOURS", "2")
    ages = Settings.from_environ(os.environ).ages()
    assert (ages["SESSION_TIMEOUT_MINUTES"], ages["SESSION_TIMEOUT_HOURS"]) == (2700, 7200)
    assert ages["SESSION_CLEANUP_THRESHOLD_HOURS"] is None


def test_a_webhook_may_have_a_query_and_a_project_may_not() -> None:
    url = "https://example.com/hooks/lull?tenant=7&key=a%20b"
    assert Settings.from_environ({"EVENTS_WEBHOOK_URL": url}).events_webhook_url == url
    for wrong in ("https://example.com/#x", "https:///hook?x=1", "ftp://example.com/hook"):
        with pytest.raises(SettingsError, match="EVENTS_WEBHOOK_URL"):
            Settings.from_environ({"EVENTS_WEBHOOK_URL": wrong})
    with pytest.raises(SettingsError, match="SUPABASE_URL"):
        Settings.from_environ({"SUPABASE_URL": "https://example.com/?x=1"})


@pytest.mark.parametrize("given", ["10.0.0.0/8, 203.0.113.7", "2001:db8::/32", "::1"])
def test_proxies_are_addresses_and_networks(given: str) -> None:
    assert len(Settings.from_environ({"TRUSTED_PROXIES": given}).trusted_proxies) == given.count(",") + 1
    for wrong in ("proxy.example.com", "10.0.0.1/8", "*"):
        with pytest.raises(SettingsError, match="TRUSTED_PROXIES"):
            Settings.from_environ({"TRUSTED_PROXIES": f"{given}, {wrong}"})


def test_every_secret_is_one_that_the_aws_template_reads() -> None:
    secret = {
        str(name).upper()
        for field, info in Settings.model_fields.items()
        if SecretStr.__name__ in str(info.annotation)
        for name in getattr(info.validation_alias, "choices", [field])
    }
    assert "SUPABASE_SERVICE_ROLE_KEY" in secret
    assert secret == set(SECRETS)
