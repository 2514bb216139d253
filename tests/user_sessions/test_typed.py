"""UserSessions: a model of the application's over every store."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel

from api.user_sessions.provider import Record, StoreAway, UserSessionProvider
from api.user_sessions.typed import (
    InvalidRecord,
    LLMSession,
    SessionDeleted,
    UserSessions,
    get_user_model,
    update_user_model,
)
from tests.scale import examples
from tests.user_sessions.stores import Store

INCREMENTS = examples(20)  # of each of sixteen threads


class Theme(BaseModel):
    name: str = "light"


class Basket(BaseModel):
    items: list[str] = []
    visits: int = 0
    theme: Theme = Theme()


def baskets(provider: UserSessionProvider) -> UserSessions[Basket]:
    return UserSessions(provider, Basket, Basket)


def increment(basket: Basket) -> None:
    basket.visits += 1


def test_a_session_is_created_from_the_default_once(provider: UserSessionProvider) -> None:
    sessions = baskets(provider)
    assert sessions.get("ann").version is None
    assert not provider.has_session("ann")
    created = sessions.get_or_create("ann")
    assert sessions.get_or_create("ann").version == created.version
    assert sessions.delete("ann")


def test_concurrent_updates_lose_nothing(provider: UserSessionProvider) -> None:
    sessions = baskets(provider)

    def count(_: int) -> None:
        for _ in range(INCREMENTS):
            sessions.update("ann", increment)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(count, range(16)))
    assert sessions.get("ann").value.visits == 16 * INCREMENTS


def test_a_session_that_is_deleted_during_an_update_stays_deleted(provider: UserSessionProvider) -> None:
    sessions = baskets(provider)
    sessions.get_or_create("ann")

    def log_out_meanwhile(basket: Basket) -> None:
        sessions.delete("ann")
        basket.visits += 1

    with pytest.raises(SessionDeleted):
        sessions.update("ann", log_out_meanwhile)
    assert not provider.has_session("ann")


def test_another_releases_fields_are_kept_and_missing_ones_filled(store: Store) -> None:
    sessions = baskets(store.provider)
    sessions.get_or_create("ann")
    store.put("ann", '{"items":["a"],"coupon":"x","theme":{"name":"dark","accent":"red"}}')
    assert sessions.get("ann").value == Basket(items=["a"], theme=Theme(name="dark"))
    sessions.update("ann", lambda basket: basket.model_copy(update={"items": ["b"]}))
    found = store.provider.get_session("ann")
    assert found is not None
    assert found.data == {
        "items": ["b"], "visits": 0, "coupon": "x", "theme": {"name": "dark", "accent": "red"}
    }  # fmt: skip


def test_a_record_that_does_not_fit_is_never_replaced(store: Store) -> None:
    sessions = baskets(store.provider)
    sessions.get_or_create("ann")
    store.put("ann", '{"items":"none"}')
    before = store.raw("ann")
    for call in (sessions.get, sessions.get_or_create, lambda user: sessions.update(user, increment)):
        with pytest.raises(InvalidRecord, match="items"):
            call("ann")
    assert store.raw("ann") == before


def test_the_chosen_language_model_is_kept(provider: UserSessionProvider) -> None:
    sessions = UserSessions(provider, LLMSession, lambda: LLMSession(current_model_name="llm1"))
    assert get_user_model(sessions, "ann") == "llm1"
    update_user_model(sessions, "ann", "llm2")
    assert get_user_model(sessions, "ann") == "llm2"


class Lossy:
    """A store whose answers to writes are lost after the write: it says StoreAway, once for each."""

    def __init__(self, provider: UserSessionProvider) -> None:
        self._provider = provider
        self.lost = 0

    def set_session(self, *arguments: object, **more: object) -> str:
        version = self._provider.set_session(*arguments, **more)  # type: ignore[arg-type]
        if self.lost % 2 == 0:
            self.lost += 1
            raise StoreAway("the answer was lost")
        self.lost += 1
        return version

    def get_session(self, user: str) -> Record | None:
        return self._provider.get_session(user)


def test_an_update_whose_answer_is_lost_is_done_once(provider: UserSessionProvider) -> None:
    sessions = baskets(Lossy(provider))  # type: ignore[arg-type]
    for _ in range(3):
        sessions.update("ann", increment)
    assert baskets(provider).get("ann").value.visits == 3


class Away:
    def get_session(self, _user: str) -> Record | None:
        raise StoreAway("gone")


def test_when_the_store_is_away_it_says_so_or_gives_the_default_where_that_was_asked_for() -> None:
    sessions = baskets(Away())  # type: ignore[arg-type]
    with pytest.raises(StoreAway):
        sessions.get("ann")
    found = sessions.get("ann", default_when_away=True)
    assert (found.value, found.version, found.degraded) == (Basket(), None, True)
    with pytest.raises(StoreAway):
        sessions.update("ann", increment)
