"""The project's keys: fetched when needed, kept, rotated, and missed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from itertools import islice
from uuid import uuid4

import freezegun
import httpx
import pytest
from freezegun.api import FrozenDateTimeFactory

from api.auth.key_set import MOST_WAITING, KeySet
from api.composition import create_app
from api.errors import Problem
from tests.auth.key_server import PATH, KeyServer, SigningKey, key_server
from tests.broken_server import broken_server, refusing_url
from tests.calls import settings
from tests.in_process import client_of

OLD, NEW = SigningKey(), SigningKey()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with key_server(OLD) as running:
        yield running


@pytest.fixture
def clock() -> Iterator[FrozenDateTimeFactory]:
    """Python's clock, moved by hand."""
    with freezegun.freeze_time(
        datetime(2026, 11, 20, tzinfo=UTC), real_asyncio=True, ignore=["_pytest.timing"]
    ) as frozen:
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


@pytest.fixture
def keys(server: KeyServer, clock: FrozenDateTimeFactory) -> KeySet:
    return KeySet(server.url + PATH)


def test_keys_are_fetched_once_and_kept(keys: KeySet, server: KeyServer) -> None:
    assert server.asked == 0
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: keys.find(OLD.id), range(40)))
    assert all(key is not None for key in found)
    assert server.asked == 1


def test_a_rotation_needs_no_restart(keys: KeySet, server: KeyServer, clock: FrozenDateTimeFactory) -> None:
    assert keys.find(OLD.id)
    server.keys = [OLD.entry, NEW.entry]
    clock.tick(5)
    assert keys.find(NEW.id)
    assert keys.find(OLD.id)
    assert server.asked == 2


def test_made_up_ids_cannot_hammer_the_project(keys: KeySet, server: KeyServer, clock: FrozenDateTimeFactory) -> None:
    for _ in range(100):
        assert keys.find(str(uuid4())) is None
    assert server.asked == 1
    clock.tick(5)
    assert keys.find(str(uuid4())) is None
    assert server.asked == 2


def test_a_withdrawn_key_stops_working(keys: KeySet, server: KeyServer, clock: FrozenDateTimeFactory) -> None:
    assert keys.find(OLD.id)
    server.keys = [NEW.entry]
    clock.tick(599)
    assert keys.find(OLD.id)
    clock.tick(1)
    assert keys.find(OLD.id) is None


def test_a_slow_address_and_made_up_ids_leave_threads_for_known_keys(server: KeyServer) -> None:
    """40 threads answer requests: users whose key is known find it while others wait for the address."""
    keys = KeySet(server.url + PATH, lifetime=0, retry_after=0)  # always to be fetched again
    assert keys.find(OLD.id)
    with ThreadPoolExecutor(41) as pool, server.held() as held:
        made_up = [pool.submit(keys.find, str(uuid4())) for _ in range(40)]
        held.wait_until_asked()
        refused = list(islice(as_completed(made_up, timeout=10), 40 - MOST_WAITING))
        assert all(isinstance(each.exception(), Problem) for each in refused)
        known = [pool.submit(keys.find, OLD.id) for _ in range(40)]
        assert all(each.result(timeout=10) for each in known)
        assert sum(not each.done() for each in made_up) == MOST_WAITING
        held.release()
        assert [each.result(timeout=10) for each in made_up if each not in refused] == [None] * MOST_WAITING


def test_an_outage_is_503_for_unknown_keys_and_known_ones_serve_for_a_while(
    keys: KeySet, server: KeyServer, clock: FrozenDateTimeFactory
) -> None:
    assert keys.find(OLD.id)
    server.status = 500
    clock.tick(601)
    assert keys.find(OLD.id)
    for _ in range(10):
        with pytest.raises(Problem) as problem:
            keys.find(NEW.id)
        assert (problem.value.status, problem.value.slug) == (503, "keys-unavailable")
    assert server.asked == 2
    clock.tick(3600)
    with pytest.raises(Problem):
        keys.find(OLD.id)
    server.status = 200
    clock.tick(5)
    assert keys.find(OLD.id)


def test_a_first_fetch_that_fails_is_tried_again(keys: KeySet, server: KeyServer, clock: FrozenDateTimeFactory) -> None:
    server.status = 503
    with pytest.raises(Problem):
        keys.find(OLD.id)
    server.status = 200
    with pytest.raises(Problem):
        keys.find(OLD.id)
    clock.tick(5)
    assert keys.find(OLD.id)


@pytest.mark.parametrize("behaviour", ["hangs up", "502 with HTML", "200 with HTML", "200 with a list", "redirects"])
def test_a_key_server_that_misbehaves_is_503_and_not_401(behaviour: str) -> None:
    with broken_server(behaviour) as broken:
        assert asked_of(broken.url).json()["type"] == "urn:lull:problem:keys-unavailable"


def test_a_key_server_that_is_down_is_503_and_not_401() -> None:
    answer = asked_of(refusing_url())
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:lull:problem:keys-unavailable")
    assert "127.0.0.1" not in answer.text


def asked_of(url: str) -> httpx.Response:
    """What a user of the project at this address is answered."""
    token = OLD.sign({"iss": f"{url}/auth/v1", "sub": str(uuid4())})
    with client_of(create_app(settings(supabase_url=url))) as api:
        return api.get("/api/flags", headers={"Authorization": f"Bearer {token}"})


def test_entries_that_tokens_cannot_be_signed_with_are_passed_over(keys: KeySet, server: KeyServer) -> None:
    odd: list[dict[str, object]] = [
        {},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric", "alg": "HS256"},
        {**NEW.entry, "use": "enc"},
        {**NEW.entry, "alg": "ES512", "kid": "wrong"},
        {key: value for key, value in NEW.entry.items() if key != "kid"},
        {**NEW.entry, "x": "AAAA", "kid": "off the curve"},
    ]
    server.keys = [*odd, OLD.entry]
    assert keys.find(OLD.id)
    for name in ("symmetric", "wrong", "off the curve", NEW.id):
        assert keys.find(name) is None
