"""Every environment variable of Lull: its name, type, default and meaning. Read once, then injected."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from api.errors import not_configured
from api.setting_types import (
    LEAST_HOURS,
    LEAST_MINUTES,
    ConnectionUrl,
    Count,
    FileTypes,
    Hours,
    Link,
    Links,
    Minutes,
    Networks,
    Origins,
    Percent,
    TimeZone,
    Url,
    UserIds,
    WebhookUrl,
    check_encrypted,
    check_redis_url,
    check_secret_address,
)


def secret_bytes(secret: SecretStr | None) -> bytes | None:
    """A secret without the blanks around it, as the bytes that the environment has, UTF-8 or not.

    None when it is unset, empty or no text: half a surrogate pair from a JSON document stands for no bytes.
    """
    value = secret.get_secret_value().strip() if secret else ""
    try:
        return value.encode(errors="surrogateescape") or None
    except UnicodeEncodeError:
        return None


@dataclass(frozen=True)
class Project:
    """A Supabase project: its address without a slash at the end, and its secret key."""

    url: str
    key: str = field(repr=False)


class SettingsError(ValueError):
    """The environment cannot be used; the message names each variable and what is wrong with it."""


class Settings(BaseModel):
    """The settings of a deployment. An empty variable counts as unset.

    Ages have no default here: unset means the age in the policies file. Without a secret or a database the API starts,
    and the routes that need it answer 503 with the variable's name.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, validate_by_name=True)

    cron_secret: SecretStr | None = None
    cron_secret_previous: SecretStr | None = None
    service_secret: SecretStr | None = None

    supabase_url: Annotated[Url, AfterValidator(check_encrypted)] | None = None
    supabase_secret_key: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")
    )
    supabase_jwt_secret: SecretStr | None = None
    supabase_jwt_issuer: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    session_token_secret: Annotated[SecretStr, Field(min_length=16)] | None = None
    session_token_secret_previous: Annotated[SecretStr, Field(min_length=16)] | None = None

    # With it the functions are called directly, without it through PostgREST.
    database_url: ConnectionUrl | None = None
    database_max_connections: Annotated[int, Field(ge=1, le=100)] = 8

    # The two flag variables are text: only exactly `true` is on.
    enable_early_session_creation: str | None = None
    next_public_enable_early_session_creation: str | None = None
    early_session_rollout_percent: Percent = Decimal(100)
    early_session_allow: UserIds = frozenset()
    early_session_deny: UserIds = frozenset()
    early_session_kill_switch: bool = False
    flag_provider: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+:[A-Za-z0-9_]+$")] | None = None

    policies_file: str | None = None
    session_cleanup_threshold_hours: Hours | None = None
    session_timeout_minutes: Minutes | None = None
    session_timeout_hours: Hours | None = None
    user_session_max_age_hours: Hours | None = None

    cleanup_time_budget_seconds: Annotated[float, Field(ge=5, le=840, allow_inf_nan=False)] = 50
    cleanup_lease_seconds: Annotated[int, Field(ge=40, le=900)] = 45  # a call may take 30
    cleanup_interval_minutes: Annotated[int, Field(ge=1, le=10_080)] | None = None
    cleanup_mode: Literal["run", "shadow"] = "run"

    # Their addresses are secrets: who has one may ping or post.
    cleanup_ping_url: Annotated[SecretStr, AfterValidator(check_secret_address)] | None = None
    alert_webhook_url: Annotated[SecretStr, AfterValidator(check_secret_address)] | None = None

    # postgres, redis, memory, or module:Class of a provider of the application's own
    user_session_store: Annotated[
        str, StringConstraints(pattern=r"^(postgres|redis|memory|[A-Za-z0-9_.]+:[A-Za-z0-9_]+)$")
    ] = "postgres"
    redis_url: Annotated[SecretStr, AfterValidator(check_redis_url)] | None = None
    redis_retry_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 10
    redis_wait_replicas: Annotated[int, Field(ge=0, le=10)] = 0
    redis_wait_ms: Annotated[int, Field(ge=1, le=5000)] = 200
    redis_strict: bool = False

    events_webhook_url: WebhookUrl | None = None
    events_webhook_secret: SecretStr | None = None
    events_webhook_allow_private: bool = False

    storage_bucket: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")] = "session-files"
    max_file_bytes: Annotated[int, Field(ge=1, le=50 * 2**30)] = 50 * 2**20
    max_files_per_session: Annotated[int, Field(ge=1, le=1000)] = 20
    allowed_file_types: FileTypes = (
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
    max_open_drafts_per_owner: Count = 10
    drafts_per_hour: Count = 30
    max_open_games_per_owner: Count = 20
    active_per_hour: Count = 300
    metadata_bytes_per_hour: Annotated[int, Field(ge=0, le=2**30)] = 2 * 2**20
    max_state_bytes: Annotated[int, Field(ge=2, le=2**20)] = 64 * 2**10

    presence_update_seconds: Annotated[int, Field(ge=5, le=600)] = 30
    leave_grace_seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 10
    seat_hold_seconds: Annotated[int, Field(ge=0, le=86_400)] = 300
    max_participants: Annotated[int, Field(ge=0, le=10_000)] = 100
    anonymous_joins_per_hour: Count = 30
    invite_failures_per_hour: Count = 30
    max_invites_per_session: Annotated[int, Field(ge=0, le=500)] = 50

    instance_lease_seconds: Annotated[int, Field(ge=10, le=3600)] = 30
    restart_limit: Annotated[int, Field(ge=0, le=1000)] = 3
    restart_window_seconds: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = 5
    recovery_limit: Annotated[int, Field(ge=1, le=1000)] = 3
    # 0 is no limit; the hourly ones hold for users, and not for the service
    max_library_items: Count = 1000
    library_writes_per_hour: Count = 600
    feedback_per_hour: Count = 60
    statistics_time_zone: TimeZone = "UTC"

    cors_allowed_origins: Origins = frozenset()
    trusted_proxies: Networks = ()
    expired_page_links: Links = (Link("Home", "/"),)

    # Set by the platforms: 1 on Vercel, whose header has the client's address; a name on Lambda.
    vercel: str | None = None
    aws_lambda_function_name: str | None = None

    # Read by api/cold_start.py, which runs before this class exists; exactly `true` is on.
    lull_plain_start: str | None = None

    # OpenTelemetry's own variables, as far as Lull asks whether they are set; its SDK reads the others.
    otel_traces_exporter: Literal["otlp", "console", "none"] | None = None
    otel_metrics_exporter: Literal["otlp", "console", "none"] | None = None
    otel_exporter_otlp_endpoint: str | None = None
    sentry_dsn: SecretStr | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read these variables; a name may be in lower case, too.

        Raises SettingsError with one sentence per bad variable. Values are not repeated: one may be a secret.
        """
        try:
            return cls(**_given(environ))
        except ValidationError as error:
            problems = [f"{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()]
            raise SettingsError("; ".join(problems)) from None

    def project(self) -> "Project":
        """The Supabase project. Raises Problem 503 that names the variable that is missing or no key."""
        if self.supabase_url is None:
            raise not_configured("SUPABASE_URL is not set.")
        if self.supabase_secret_key is None:
            raise not_configured("SUPABASE_SECRET_KEY is not set.")
        key = self.supabase_secret_key.get_secret_value().strip()
        if not re.fullmatch(r"[!-~]+", key):
            raise not_configured("SUPABASE_SECRET_KEY is no key: a key is ASCII letters, digits and signs, no spaces.")
        return Project(self.supabase_url.rstrip("/"), key)

    def derived_key(self, purpose: bytes) -> bytes | None:
        """A key for one purpose, from SESSION_TOKEN_SECRET or the secret key; None when neither is set."""
        secret = secret_bytes(self.session_token_secret or self.supabase_secret_key)
        return hmac.digest(secret, purpose, "sha256") if secret else None

    def derived_keys(self, purpose: bytes) -> list[bytes]:
        """The keys that verify what was made for one purpose: today's first, then that of before the rotation.

        Empty when no secret is set.
        """
        today, before = self.derived_key(purpose), secret_bytes(self.session_token_secret_previous)
        return [key for key in (today, hmac.digest(before, purpose, "sha256") if before else None) if key]

    def seat_seconds(self) -> float:
        """The seconds without a heartbeat after which a full session gives a seat away: at least 4.5 intervals."""
        return max(self.seat_hold_seconds, 4.5 * self.presence_update_seconds)

    def interval_minutes(self) -> int:
        """The expected interval between runs in minutes; by default that of the platform's schedule."""
        return self.cleanup_interval_minutes or (1440 if self.vercel else 15)

    def ages(self) -> dict[str, float | None]:
        """The variables that override a policy's age, in seconds; None where unset."""
        return {
            "SESSION_CLEANUP_THRESHOLD_HOURS": _times(3600, self.session_cleanup_threshold_hours),
            "SESSION_TIMEOUT_MINUTES": _times(60, self.session_timeout_minutes),
            "SESSION_TIMEOUT_HOURS": _times(3600, self.session_timeout_hours),
            "USER_SESSION_MAX_AGE_HOURS": _times(3600, self.user_session_max_age_hours),
        }


# The least age in seconds that each variable of `Settings.ages` can set: the database lets no run go below it.
LEAST_AGES: dict[str, float] = {
    "SESSION_CLEANUP_THRESHOLD_HOURS": 3600 * LEAST_HOURS,
    "SESSION_TIMEOUT_MINUTES": 60 * LEAST_MINUTES,
    "SESSION_TIMEOUT_HOURS": 3600 * LEAST_HOURS,
    "USER_SESSION_MAX_AGE_HOURS": 3600 * LEAST_HOURS,
}


def _times(seconds: int, value: float | None) -> float | None:
    return None if value is None else seconds * value


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are set, by the fields' names; an empty one counts as unset."""
    values = {name.upper(): value for name, value in environ.items() if value}
    found = {}
    for field_name, info in Settings.model_fields.items():
        alias = info.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [field_name.upper()]
        value = next((values[str(name)] for name in names if name in values), None)
        if value is not None:
            found[field_name] = value
    return found
