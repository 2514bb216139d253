"""The API with the flag of early sessions on."""

from collections.abc import Iterator

import httpx
import pytest

from api.composition import create_app
from tests.calls import settings
from tests.in_process import client_of

UNLIMITED = dict.fromkeys(
    ("max_open_drafts_per_owner", "drafts_per_hour", "max_open_games_per_owner", "active_per_hour", "metadata_bytes_per_hour"), 0
)  # fmt: skip


@pytest.fixture
def early(environment: dict[str, str]) -> Iterator[httpx.Client]:
    """The API in this process where chats may be created before their first message, as many as a test likes."""
    app = create_app(settings(environment, enable_early_session_creation="true", **UNLIMITED))
    with client_of(app) as client:
        yield client
