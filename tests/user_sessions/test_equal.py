"""Random operations have the same outcome on every store, ageing included."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.user_sessions.provider import Conflict
from tests.scale import examples
from tests.user_sessions.conftest import STORES, make_store
from tests.user_sessions.stores import IDLE_SECONDS, Store

_USERS = st.sampled_from(["a", "b", "{c} d"])
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-1e20, 1e20)
    | st.text('aä\u2028"\\', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", max_size=2), inner, max_size=3),
    max_leaves=5,
)
_DATA = st.dictionaries(st.text("kl", min_size=1, max_size=2), _VALUES, max_size=3)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), _USERS, _DATA, st.sampled_from(["new", "current", "stale"])),
        st.tuples(st.just("delete"), _USERS),
        st.tuples(st.just("touch"), _USERS),
        st.tuples(st.just("age"), _USERS, st.sampled_from([100.0, 4000.0, IDLE_SECONDS])),
        st.tuples(st.just("prune"), st.sampled_from([3600.0, IDLE_SECONDS])),
    ),
    max_size=20,
)


@pytest.fixture
def stores(request: pytest.FixtureRequest) -> list[Store]:
    return [make_store(kind, request) for kind in STORES]


class Player:
    """Plays steps on one store and remembers the versions by their order, as texts differ between stores."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.versions: dict[str, list[str]] = {}

    def play(self, step: tuple[Any, ...]) -> Any:
        provider, (kind, *rest) = self.store.provider, step
        if kind == "set":
            user, data, which = rest
            known = self.versions.setdefault(user, [])
            found = provider.get_session(user)
            expected = {"new": None, "current": found.version if found else None, "stale": known[0] if known else "0"}[
                which
            ]
            try:
                version = provider.set_session(user, data, expected)
            except Conflict as conflict:
                return "conflict", conflict.current in known
            if version not in known:
                known.append(version)
            return known.index(version)
        if kind == "delete":
            return provider.delete_session(*rest)
        if kind == "touch":
            return provider.touch(*rest)
        if kind == "age":
            if self.store.provider.has_session(rest[0]):
                self.store.age(*rest)
            return None
        return provider.cleanup_old_sessions(*rest).more

    def state(self) -> Any:
        found = {user: self.store.provider.get_session(user) for user in ("a", "b", "{c} d")}
        return {
            user: record and (record.data, self.versions[user].index(record.version)) for user, record in found.items()
        }


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_random_operations_end_alike_on_every_store(stores: list[Store], steps: list[tuple[Any, ...]]) -> None:
    for store in stores:
        for user in ("a", "b", "{c} d"):
            store.provider.delete_session(user)
    players = [Player(store) for store in stores]
    for step in steps:
        outcomes = [player.play(step) for player in players]
        assert all(outcome == outcomes[0] for outcome in outcomes), step
        states = [player.state() for player in players]
        assert all(state == states[0] for state in states), step
