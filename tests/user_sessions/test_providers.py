"""What every store of user sessions does alike."""

from threading import Barrier, Thread

import pytest

from api.user_sessions.provider import Conflict, InvalidData, UserSessionProvider
from tests.user_sessions.stores import IDLE_SECONDS, Store, soon

ANN = "ann {with} braces"


def test_a_record_comes_back_as_it_was_set(provider: UserSessionProvider) -> None:
    assert provider.get_session(ANN) is None
    data = {"name": 'Änn \u2028 "', "tags": ["a", 1, 1.5, None, True, {}], "deep": {"x": {"y": [[]]}}, "large": 1e300}
    version = provider.set_session(ANN, data)
    found = provider.get_session(ANN)
    assert found is not None
    assert (found.data, found.version, found.expires_at) == (data, version, None)
    assert provider.has_session(ANN)
    assert not provider.has_session("other")


def test_without_a_version_it_only_creates(provider: UserSessionProvider) -> None:
    version = provider.set_session("ann", {"n": 1})
    with pytest.raises(Conflict) as conflict:
        provider.set_session("ann", {"n": 2})
    assert conflict.value.current == version
    assert provider.get_session("ann").data == {"n": 1}  # type: ignore[union-attr]


def test_a_stale_version_is_refused_after_a_delete_and_after_a_new_login(provider: UserSessionProvider) -> None:
    old = provider.set_session("ann", {"n": 1})
    assert provider.delete_session("ann")
    assert not provider.delete_session("ann")
    with pytest.raises(Conflict) as conflict:
        provider.set_session("ann", {"n": 2}, old)
    assert conflict.value.current is None
    assert provider.get_session("ann") is None
    new = provider.set_session("ann", {"n": 3})
    with pytest.raises(Conflict) as conflict:
        provider.set_session("ann", {"n": 2}, old)
    assert conflict.value.current == new


def test_a_write_repeated_after_a_lost_answer_succeeds(provider: UserSessionProvider) -> None:
    first = provider.set_session("ann", {"n": 1}, new_version="00000000000000a1")
    assert provider.set_session("ann", {"n": 1}, new_version="00000000000000a1") == first
    second = provider.set_session("ann", {"n": 2}, first, new_version="00000000000000a2")
    assert provider.set_session("ann", {"n": 2}, first, new_version="00000000000000a2") == second


def test_the_same_data_is_not_written_again(store: Store) -> None:
    version = store.provider.set_session("ann", {"a": 1, "b": [1.0]})
    before = store.raw("ann")
    assert store.provider.set_session("ann", {"b": [1], "a": 1.0}, version) == version
    assert store.raw("ann") == before


def test_a_touch_moves_the_clock_only_after_a_minute_and_never_the_data(store: Store) -> None:
    version = store.provider.set_session("ann", {"n": 1})
    before = store.raw("ann")
    assert store.provider.touch("ann")
    assert store.raw("ann") == before
    store.age("ann", 3600)
    aged = store.provider.get_session("ann")
    assert store.provider.touch("ann")
    found = store.provider.get_session("ann")
    assert found is not None and aged is not None
    assert found.active_at > aged.active_at
    assert (found.version, found.data) == (version, {"n": 1})
    assert not store.provider.touch("nobody's")


def test_an_idle_record_is_dead_for_every_method_before_it_is_pruned(store: Store) -> None:
    provider = store.provider
    old = provider.set_session("ann", {"n": 1})
    store.age("ann", IDLE_SECONDS + 1)
    assert provider.get_session("ann") is None
    assert not provider.has_session("ann")
    assert not provider.touch("ann")
    assert provider.get_active_sessions().user_ids == []
    with pytest.raises(Conflict) as conflict:
        provider.set_session("ann", {"n": 2}, old)
    assert conflict.value.current is None
    assert provider.set_session("ann", {"n": 3}) != old


def test_an_end_is_kept_whatever_the_activity(store: Store) -> None:
    provider, end = store.provider, soon(100)
    version = provider.set_session("ann", {}, expires_at=end)
    found = provider.get_session("ann")
    assert found is not None and found.expires_at is not None
    assert abs((found.expires_at - end).total_seconds()) < 0.01
    provider.set_session("ann", {"n": 1}, version, expires_at=soon(-1))
    assert provider.get_session("ann") is None


def test_old_records_are_counted_and_removed(store: Store) -> None:
    provider = store.provider
    for n in range(5):
        provider.set_session(f"user {n}", {})
    for n in range(3):
        store.age(f"user {n}", 7200)
    dry = provider.cleanup_old_sessions(3600, dry_run=True)
    assert (dry.count, dry.more) == (3, False)
    assert len(provider.get_active_sessions().user_ids) == 5
    some = provider.cleanup_old_sessions(3600, 2)
    assert (some.count, some.more) == (2, True)
    rest = provider.cleanup_old_sessions(3600, 2)
    assert (rest.count, rest.more) == (1, False)
    assert sorted(provider.get_active_sessions().user_ids) == ["user 3", "user 4"]


def test_active_users_come_in_pages(provider: UserSessionProvider) -> None:
    users = {f"user:{n}" for n in range(23)}
    for user in users:
        provider.set_session(user, {})
    seen: list[str] = []
    cursor = None
    while True:
        stats = provider.get_stats(cursor, 10)
        assert stats.active_sessions == 23
        assert len(stats.user_ids) <= 10
        seen += stats.user_ids
        cursor = stats.cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(users)


@pytest.mark.parametrize(
    "data",
    [
        [], {"n": float("nan")}, {"n": float("inf")}, {"n": 2**53}, {"t": "\0"}, {"t": "\ud800"}, {1: 2}, {"x": object()},
        {"x": "y" * 65536}, {"n": [1e308] * 2300},
    ],
    ids=lambda data: repr(data)[:20],
)  # fmt: skip
def test_data_that_a_store_could_not_keep_is_refused(data: object, provider: UserSessionProvider) -> None:
    with pytest.raises(InvalidData):
        provider.set_session("ann", data)  # type: ignore[arg-type]
    assert not provider.has_session("ann")


def test_of_two_writers_that_read_the_same_version_one_is_refused(provider: UserSessionProvider) -> None:
    version = provider.set_session("ann", {"n": 0})
    together = Barrier(2)
    results: list[str | None] = []

    def write(n: int) -> None:
        together.wait()
        try:
            results.append(provider.set_session("ann", {"n": n}, version))
        except Conflict:
            results.append(None)

    threads = [Thread(target=write, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(None) == 1
