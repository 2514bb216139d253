"""Callers of the library."""

from uuid import uuid4

import pytest

from tests.callers import Headers, as_service, as_user


@pytest.fixture
def service(environment: dict[str, str]) -> Headers:
    """The project's bot."""
    return as_service(environment)


@pytest.fixture
def ada(environment: dict[str, str]) -> tuple[str, Headers]:
    """A user's id and headers."""
    user = str(uuid4())
    return user, as_user(environment, user)
