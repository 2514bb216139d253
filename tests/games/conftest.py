"""The service's calls, over the API in this process."""

import httpx
import pytest

from tests.callers import as_service
from tests.games.calls import Games


@pytest.fixture
def games(api: httpx.Client, environment: dict[str, str]) -> Games:
    return Games(api, as_service(environment))
