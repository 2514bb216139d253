"""Every environment variable of Lull: its name, type, default and meaning. Read once, then injected."""

import hmac
import os
import re
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


# Never \w in a pattern: in pydantic it is all of Unicode's letters, and `\w{1,100}` takes 40 ms to compile.
_WORD = "[A-Za-z0-9_.+-]+"
_Hours = Annotated[float, Field(ge=0.1, le=8760, allow_inf_nan=False)]
_Minutes = Annotated[float, Field(ge=1, le=525_600, allow_inf_nan=False)]
_Percent = Annotated[Decimal, Field(ge=0, le=100, decimal_places=2, allow_inf_nan=False)]
_UserIds = Annotated[frozenset[UUID], BeforeValidator(_comma_separated)]
_Count = Annotated[int, Field(ge=0, le=1_000_000)]
_FileTypes = Annotated[
    tuple[Annotated[str, StringConstraints(to_lower=True, pattern=rf"^(\*/\*|{_WORD}/(\*|{_WORD}))$")], ...],
    BeforeValidator(_comma_separated),
]


def _address(value: str) -> str:
    """Refuse at the start what no HTTP client could call later."""
    try:
        parts = urlsplit(value)
        usable = _has_host(value, parts.hostname or "") and (parts.port or 0) >= 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or "\\" in value:
        raise ValueError("must be the address of a project, such as https://abcdefgh.supabase.co")
    return value


def _has_host(address: str, host: str) -> bool:
    """Whether an address names a host. What is not plain is httpx's to say, which takes long to import."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", host):
        return bool(IPv4Address(host))
    if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host) and "xn--" not in host:
        return True
    import httpx

    try:
        return bool(httpx.URL(address).host)
    except httpx.InvalidURL:
        return False


def _connection_url(value: SecretStr) -> SecretStr:
    """Refuse at the start what libpq would refuse later; it is only asked where the variable is set."""
    url = value.get_secret_value()
    if not re.match(r"postgres(ql)?://", url):
        raise ValueError("must be a URL such as postgresql://user:password@host:5432/postgres")
    try:
        from psycopg import Error
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise ValueError("needs psycopg, which requirements.txt offers in its last line") from None
    try:
        conninfo_to_dict(url)
    except Error as error:
        # the rest of what libpq says may quote the password
        named = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
        raise ValueError(
            f"has the parameter {named[1]}, which Postgres does not know: leave it out"
            if named
            else "is no connection URL: write special characters of the password as %xx"
        ) from None
    return value


_Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+[^\s]*$"), AfterValidator(_address)]
_ConnectionUrl = Annotated[SecretStr, AfterValidator(_connection_url)]


class SettingsError(ValueError):
    """The environment cannot be used; the message names each variable and what is wrong with it."""


class Settings(BaseModel):
    """What the environment says; an empty variable counts as unset.

    The ages have no default here: unset means what `policies.toml` says. A missing secret or database is no
    reason not to start: the routes that need it answer 503 and name the variable.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, validate_by_name=True)

    cron_secret: SecretStr | None = None
    cron_secret_previous: SecretStr | None = None
    service_secret: SecretStr | None = None

    supabase_url: _Url | None = None
    supabase_secret_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")
    )
    supabase_jwt_secret: SecretStr | None = None
    session_token_secret: Annotated[SecretStr, Field(min_length=16)] | None = None

    # With it the functions are called directly, without it through PostgREST.
    database_url: _ConnectionUrl | None = None
    database_max_connections: Annotated[int, Field(ge=1, le=100)] = 8

    # The two flag variables stay text: exactly `true` is on, and `True` is off (seed 003).
    enable_early_session_creation: str | None = None
    next_public_enable_early_session_creation: str | None = None
    early_session_rollout_percent: _Percent = Decimal(100)
    early_session_allow: _UserIds = frozenset()
    early_session_deny: _UserIds = frozenset()
    early_session_kill_switch: bool = False
    flag_provider: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+:[A-Za-z0-9_]+$")] | None = None

    policies_file: str | None = None
    session_cleanup_threshold_hours: _Hours | None = None
    session_timeout_minutes: _Minutes | None = None
    session_timeout_hours: _Hours | None = None
    user_session_max_age_hours: _Hours | None = None

    cleanup_time_budget_seconds: Annotated[float, Field(ge=5, le=840, allow_inf_nan=False)] = 50
    cleanup_lease_seconds: Annotated[int, Field(ge=40, le=900)] = 45  # a call may take 30
    cleanup_interval_minutes: Annotated[int, Field(ge=1, le=10_080)] | None = None

    # The user-sessions wing will read it; until then only the doctor does.
    user_session_store: Literal["postgres", "redis", "memory"] = "postgres"

    events_webhook_url: _Url | None = None
    events_webhook_secret: SecretStr | None = None
    events_webhook_allow_private: bool = False

    storage_bucket: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")] = "session-files"
    max_file_bytes: Annotated[int, Field(ge=1, le=50 * 2**30)] = 50 * 2**20
    max_files_per_session: Annotated[int, Field(ge=1, le=1000)] = 20
    allowed_file_types: _FileTypes = (
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "application/pdf",
        "text/plain",
        "text/csv",
        "text/markdown",
    )

    # 0 is no limit
    max_open_drafts_per_owner: _Count = 10
    drafts_per_hour: _Count = 30
    max_open_games_per_owner: _Count = 20
    max_state_bytes: Annotated[int, Field(ge=2, le=2**20)] = 64 * 2**10

    # The platforms' own: 1 on Vercel, where a header says where a request came from; a name on Lambda.
    vercel: str | None = None
    aws_lambda_function_name: str | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**_environment(), **given})

    def derived_key(self, purpose: bytes) -> bytes | None:
        """A key for one purpose, from SESSION_TOKEN_SECRET or the secret key; None when neither is set."""
        secret = self.session_token_secret or self.supabase_secret_key
        return hmac.digest(secret.get_secret_value().strip().encode(), purpose, "sha256") if secret else None

    def interval_minutes(self) -> int:
        """How often runs are expected, in minutes; by default what the platform's own schedule does."""
        return self.cleanup_interval_minutes or (1440 if self.vercel else 15)

    def ages(self) -> dict[str, float | None]:
        """The variables that override a policy's age, in seconds; None where unset."""
        return {
            "SESSION_CLEANUP_THRESHOLD_HOURS": _times(3600, self.session_cleanup_threshold_hours),
            "SESSION_TIMEOUT_MINUTES": _times(60, self.session_timeout_minutes),
            "SESSION_TIMEOUT_HOURS": _times(3600, self.session_timeout_hours),
            "USER_SESSION_MAX_AGE_HOURS": _times(3600, self.user_session_max_age_hours),
        }


def _times(seconds: int, value: float | None) -> float | None:
    return None if value is None else seconds * value


def _environment() -> dict[str, str]:
    """What the environment says, by the fields' names; a variable may be in lower case, too."""
    values = {name.upper(): value for name, value in os.environ.items() if value}
    found = {}
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [field.upper()]
        value = next((values[str(name)] for name in names if name in values), None)
        if value is not None:
            found[field] = value
    return found


def load_settings() -> Settings:
    """Read the environment.

    Raises SettingsError with one sentence per bad variable. Values are not repeated: one may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [f"{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()]
        raise SettingsError("; ".join(problems)) from None
