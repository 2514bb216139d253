"""Read the database's state for the doctor."""

from collections.abc import Sequence
from typing import Any

from api.database import Database
from api.doctor.schemas import DatabaseState, PolicyChecks

_TIMEOUT_SECONDS = 7  # the functions' own statement time-out is 5


def read_database_state(database: Database) -> DatabaseState:
    """Read the database's state. Raises Problem."""
    return DatabaseState.model_validate(database.call("lull_inspect", {}, timeout_seconds=_TIMEOUT_SECONDS))


def check_policies(database: Database, policies: Sequence[dict[str, Any]]) -> PolicyChecks:
    """Compare these policies with the stored ones, and check whether they can run. Raises Problem."""
    arguments = {"p_policies": list(policies)}
    return PolicyChecks.model_validate(
        database.call("lull_check_policies", arguments, timeout_seconds=_TIMEOUT_SECONDS)
    )
