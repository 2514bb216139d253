"""A receiver, an API that sends to it, and events to send."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.calls import settings
from tests.events.receiver import SECRET, Receiver
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
ApiFor = Callable[..., httpx.Client]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as receiver:
        yield receiver
        assert receiver.faults == 0


@pytest.fixture
def api_for(environment: dict[str, str]) -> Iterator[ApiFor]:
    """Makes an API whose webhook is at a URL."""
    with ExitStack() as open_clients:

        def make(url: str, **changes: Any) -> httpx.Client:
            given = {
                "events_webhook_url": url,
                "events_webhook_secret": SECRET,
                "events_webhook_allow_private": True,
                **changes,
            }
            return open_clients.enter_context(client_of(create_app(settings(environment, **given))))

        yield make


@pytest.fixture
def webhook_api(api_for: ApiFor, receiver: Receiver) -> httpx.Client:
    return api_for(receiver.url)
