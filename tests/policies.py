"""The policies that the tests run with (tests/policies.toml): their ages do not follow the shipped defaults."""

from pathlib import Path
from typing import Any

from api.cleanup.policies import Policy, load_policies
from api.settings import Settings

FILE = Path(__file__).with_suffix(".toml")
ENVIRONMENT = {"POLICIES_FILE": str(FILE)}


def load_test_policies() -> tuple[Policy, ...]:
    """The policies of the tests."""
    return load_policies(Settings(policies_file=str(FILE)))


def policy_arguments() -> list[dict[str, Any]]:
    """The same as the SQL functions take them."""
    return [policy.arguments() for policy in load_test_policies()]
