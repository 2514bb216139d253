"""A run in this process, and its answer as the tests look at it."""

from typing import Any

from api.cleanup import run
from api.cleanup.run import Cleanup


def run_cleanup(cleanup: Cleanup, **options: Any) -> dict[str, Any]:
    """Run a cleanup; return the database's answer."""
    return run.run_cleanup(cleanup, **options).model_dump()
