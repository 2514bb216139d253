"""The secrets, from Parameter Store into the environment: at the start, and again while it is warm."""

import time
from collections.abc import Callable, MutableMapping
from typing import Any

# Of all variables, the ones that are secrets; the template lets the function read exactly these.
SECRETS = (
    "CRON_SECRET",
    "CRON_SECRET_PREVIOUS",
    "SERVICE_SECRET",
    "SUPABASE_SECRET_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_JWT_SECRET",
    "EVENTS_WEBHOOK_SECRET",
    "SESSION_TOKEN_SECRET",
    "DATABASE_URL",
)
PATH = "LULL_PARAMETERS"
MAX_AGE_SECONDS = 300


class ParametersUnavailable(Exception):
    """Parameter Store gave no answer, or refused; the message says which path, and never a value."""


class Parameters:
    """The secrets below the path that LULL_PARAMETERS names, such as /lull/production/CRON_SECRET.

    A parameter wins over a variable of the same name, and one that was deleted is unset. Without a path
    nothing is read, and the environment stays as it is.
    """

    def __init__(
        self,
        environ: MutableMapping[str, str],
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
        self._client: Any = None

    @property
    def absent(self) -> list[str]:
        """The parameters that are not there, by their whole names."""
        return [f"{self._path}/{name}" for name in SECRETS if name not in self._values] if self._path else []

    def refresh(self) -> bool:
        """Read the parameters unless they were read lately; say whether anything changed.

        Raises ParametersUnavailable; what was read before then stays in force until they are asked for again.
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
        for name in self._values.keys() - values.keys():
            self._environ.pop(name, None)
        self._environ.update(values)
        self._values = values
        return True

    def _read(self) -> dict[str, str]:
        # Part of every Lambda runtime, and of no bundle: 0.2 s that nobody else has to pay for.
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._client is None:
                # at most 6 s in all, of the 10 by which the function's time-out is above a run's budget
                limits = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
                self._client = boto3.client("ssm", config=limits)
            answer = self._client.get_parameters(
                Names=[f"{self._path}/{name}" for name in SECRETS], WithDecryption=True
            )
        except ClientError as error:
            raise ParametersUnavailable(f"{self._path}: {error.response['Error']['Code']}") from None
        except BotoCoreError as error:
            raise ParametersUnavailable(f"{self._path}: {type(error).__name__}") from None
        return {found["Name"].rpartition("/")[2]: found["Value"] for found in answer["Parameters"]}
