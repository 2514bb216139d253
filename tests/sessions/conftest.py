"""The API with the flag of early sessions on."""

from collections.abc import Iterator

import httpx
import pytest

from api.index import create_app
from tests.calls import settings
from tests.in_process import client_of


@pytest.fixture
def early(environment: dict[str, str]) -> Iterator[httpx.Client]:
    """The API in this process where chats may be created before their first message."""
    app = create_app(settings(environment, enable_early_session_creation="true"))
    with client_of(app) as client:
        yield client
