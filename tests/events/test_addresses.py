"""Where a webhook may not be sent, and that the address that was looked at is the one connected to."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.database import Database
from api.events.addresses import AddressRefused, is_public, permitted, resolve
from api.events.delivery import deliver
from api.events.schemas import ClaimedEvent, DeliveryReport
from api.events.webhook import Attempt, create_receiver, open_client, send
from tests.broken_server import refusing_url
from tests.calls import settings
from tests.certificates import certificate
from tests.events.conftest import ApiFor
from tests.events.event_log import append, counts
from tests.events.event_log import deliver as deliver_by_route
from tests.events.receiver import SECRET, Receiver

Sql = psycopg.Connection[Any]
NAME = "events.example.test"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "192.0.0.8", "198.18.0.1", "203.0.113.7", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "3fff::1", "5f00::1", "100::1", "2001:0:7f00:1::", "nonsense",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(AddressRefused, match="not public"):
        permitted(["93.184.215.14", address], allow_private=False)
    assert permitted([address], allow_private=True) == [address]


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"]
)
def test_a_public_address_is_permitted(address: str) -> None:
    assert permitted([address], allow_private=False) == [address]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "017700000001"])
def test_every_way_to_write_this_machine_is_refused(
    host: str, api_for: ApiFor, receiver: Receiver, sql: Sql
) -> None:
    append(sql, sessions=1)
    api = api_for(f"https://{host}:{receiver.port}/hooks", events_webhook_allow_private=False)
    report = deliver_by_route(api)
    assert counts(report) == (0, 1, 0, 1)
    assert [reason.split(":")[0] for reason in report["errors"]] == ["the receiver's address is not public"]
    assert receiver.messages == []


def test_a_name_that_leads_nowhere_is_a_failed_attempt(api_for: ApiFor, sql: Sql) -> None:
    append(sql, sessions=1)
    report = deliver_by_route(api_for("https://nowhere.invalid/hooks"))
    assert (counts(report), report["errors"]) == ((0, 1, 0, 1), {"the receiver's name was not found": 1})


def test_a_name_is_resolved_by_the_system_to_each_address_once() -> None:
    assert resolve("localhost", 80)[0] in {"127.0.0.1", "::1"}
    assert len(resolve("localhost", 80)) == len(set(resolve("localhost", 80)))
    with pytest.raises(AddressRefused, match="not found"):
        resolve("a" * 300, 80)


class Names:
    """A name server that says something else each time it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def __call__(self, host: str, port: int) -> list[str]:
        assert (host, port > 0) == (NAME, True)
        return self.answers.pop(0)


DeliverTo = Callable[..., DeliveryReport]


@pytest.fixture
def deliver_to(environment: dict[str, str], sql: Sql) -> DeliverTo:
    """Sends to a URL, its name resolved as told."""

    def run(
        url: str, names: Names, *, allow_private: bool = True, tls: ssl.SSLContext | bool = True
    ) -> DeliveryReport:
        given = settings(
            environment,
            events_webhook_url=url,
            events_webhook_secret=SECRET,
            events_webhook_allow_private=allow_private,
        )
        receiver = replace(create_receiver(given), resolve=names, tls=tls)
        return deliver(receiver, Database(given), 10)

    return run


def test_the_address_that_was_looked_at_is_the_one_connected_to(
    deliver_to: DeliverTo, receiver: Receiver, sql: Sql
) -> None:
    append(sql, sessions=20, events=2)
    names = Names(["127.0.0.1"])  # asked again, it would have no answer
    assert deliver_to(f"http://{NAME}:{receiver.port}/hooks", names).delivered == 40
    assert {message.headers["host"] for message in receiver.messages} == {f"{NAME}:{receiver.port}"}


def test_a_name_that_changes_its_mind_after_the_look_gains_nothing(
    deliver_to: DeliverTo, receiver: Receiver, sql: Sql
) -> None:
    append(sql, sessions=1)
    names = Names(["192.0.2.1", "127.0.0.1"], ["127.0.0.1"])
    report = deliver_to(f"https://{NAME}:{receiver.port}/", names, allow_private=False)
    assert list(report.errors) == [
        "the receiver's address is not public: set EVENTS_WEBHOOK_ALLOW_PRIVATE=true"
    ]
    assert (receiver.messages, len(names.answers)) == ([], 1)


def test_the_next_address_is_tried_when_one_does_not_answer(
    deliver_to: DeliverTo, receiver: Receiver, sql: Sql
) -> None:
    append(sql, sessions=1)
    assert deliver_to(f"http://{NAME}:{receiver.port}/", Names(["127.0.0.9", "127.0.0.1"])).delivered == 1


@pytest.mark.parametrize(("certified", "delivered"), [(NAME, 1), ("somebody.example.test", 0)])
def test_tls_asks_for_the_certificate_of_the_name_and_not_of_the_address(
    certified: str, delivered: int, deliver_to: DeliverTo, sql: Sql, tmp_path: Path
) -> None:
    append(sql, sessions=1)
    server, client = certificate(tmp_path, certified)
    with Receiver().listening(server) as receiver:
        report = deliver_to(f"https://{NAME}:{receiver.port}/", Names(["127.0.0.1"]), tls=client)
    assert (report.delivered, len(receiver.messages)) == (delivered, delivered)


def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would resolve the name once more, and where it likes."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, refusing_url())
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    given = settings(
        events_webhook_url=receiver.url, events_webhook_secret=SECRET, events_webhook_allow_private=True
    )
    to = create_receiver(given)
    event = ClaimedEvent(id=1, session_id="s", kind="chat", event="e", at="2026-01-01T00:00:00Z", data={})

    async def attempt() -> Attempt:
        async with open_client(to) as client:
            return await send(client, to, event, to.addresses(), 5)

    assert asyncio.run(attempt()) == Attempt("delivered")
