"""Secrets from Parameter Store beside the environment: read at start, and again in a warm instance."""

import time
from collections.abc import Callable, Mapping
from typing import Any

# The variables that are secrets; the template grants the function access to exactly these.
SECRETS = (
    "CRON_SECRET",
    "CRON_SECRET_PREVIOUS",
    "SERVICE_SECRET",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_JWT_SECRET",
    "EVENTS_WEBHOOK_SECRET",
    "SESSION_TOKEN_SECRET",
    "SESSION_TOKEN_SECRET_PREVIOUS",
    "DATABASE_URL",
    "REDIS_URL",
    "CLEANUP_PING_URL",
    "ALERT_WEBHOOK_URL",
    "SENTRY_DSN",
)
AT_ONCE = 10  # names that Parameter Store takes in one call
PATH = "LULL_PARAMETERS"
MAX_AGE_SECONDS = 300


class ParametersUnavailable(Exception):
    """Parameter Store gave no answer, or refused; the message says which path, and never a value."""


class Parameters:
    """The secrets below the path that LULL_PARAMETERS names, such as /lull/production/CRON_SECRET.

    A parameter overrides a variable of the same name. Without a path nothing is read. The process environment is
    never changed.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        max_age_seconds: float = MAX_AGE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environ = environ
        self._path = environ.get(PATH, "").rstrip("/")
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._read_at: float | None = None
        self._values: dict[str, str] = {}
        self._ever_read: set[str] = set()
        self._client: Any = None

    @property
    def absent(self) -> list[str]:
        """The full names of the parameters that do not exist."""
        return [f"{self._path}/{name}" for name in SECRETS if name not in self._values] if self._path else []

    @property
    def environ(self) -> dict[str, str]:
        """The environment with the parameters in it. A parameter that was deleted is unset."""
        given = {name: value for name, value in self._environ.items() if name not in self._ever_read}
        return given | self._values

    def expire(self) -> None:
        """Make the next refresh read the parameters, however recently they were read."""
        self._read_at = None

    def refresh(self) -> bool:
        """Read the parameters unless they were read recently. Returns whether anything changed.

        Raises ParametersUnavailable; the values read before stay in use until the next refresh.
        """
        if not self._path:
            return False
        now = self._clock()
        if self._read_at is not None and now - self._read_at < self._max_age_seconds:
            return False
        self._read_at = now
        values = self._read()
        if values == self._values:
            return False
        self._ever_read |= values.keys()
        self._values = values
        return True

    def _read(self) -> dict[str, str]:
        # boto3 is part of Lambda's runtime, not of the bundle. Its import takes 0.2 s.
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._client is None:
                # at most 6 s in all: the function's time-out is 10 s above a run's budget
                limits = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
                self._client = boto3.client("ssm", config=limits)
            names = [f"{self._path}/{name}" for name in SECRETS]
            answers = [
                self._client.get_parameters(Names=names[first : first + AT_ONCE], WithDecryption=True)
                for first in range(0, len(names), AT_ONCE)
            ]
        except ClientError as error:
            raise ParametersUnavailable(f"{self._path}: {error.response['Error']['Code']}") from None
        except BotoCoreError as error:
            raise ParametersUnavailable(f"{self._path}: {type(error).__name__}") from None
        return {
            found["Name"].rpartition("/")[2]: found["Value"] for answer in answers for found in answer["Parameters"]
        }
