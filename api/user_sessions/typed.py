"""User sessions for application code: a pydantic model a user, updates that lose no concurrent one."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from api.user_sessions.provider import (
    Conflict,
    Data,
    Record,
    Stats,
    StoreAway,
    UserSessionError,
    UserSessionProvider,
    new_version,
)

MOST_TRIES = 64
LONGEST_SECONDS = 5.0
_PAUSE_SECONDS = (0.001, 0.05)


class Contended(UserSessionError):
    """An update met another writer at each of its tries: nothing was written."""


class SessionDeleted(UserSessionError):
    """The record was deleted while it was being updated: the delete wins, nothing was written."""


class InvalidRecord(UserSessionError):
    """The stored record does not fit the model. It was left as it is; the message names the fields."""


T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Session(Generic[T]):
    """A user's session. `version` is None for a default that is not stored; `degraded` says the store was away."""

    value: T
    version: str | None
    degraded: bool = False


class UserSessions(Generic[T]):
    """Sessions of one model over a store. `default` makes the session of a user that has none.

    Unknown fields of a stored record are kept and written back, missing ones are filled with the model's defaults:
    two releases can share a store.
    """

    def __init__(self, provider: UserSessionProvider, model: type[T], default: Callable[[], T]) -> None:
        self._provider = provider
        self._model = model
        self._default = default

    def get(self, user: str, *, default_when_away: bool = False) -> Session[T]:
        """The user's session, else the default, which is not stored.

        Raises StoreAway, or answers the default with `degraded` where that was asked for; InvalidRecord.
        """
        try:
            record = self._provider.get_session(user)
        except StoreAway:
            if not default_when_away:
                raise
            return Session(self._default(), None, degraded=True)
        if record is None:
            return Session(self._default(), None)
        return Session(self._read(record), record.version)

    def get_or_create(self, user: str) -> Session[T]:
        """The user's session, created from the default where there is none. Raises StoreAway, InvalidRecord."""
        found = self._provider.get_session(user)
        if found is None:
            value = self._default()
            try:
                return Session(value, self._provider.set_session(user, _data(value)))
            except Conflict:
                found = self._provider.get_session(user)
                if found is None:
                    raise SessionDeleted(user) from None
        return Session(self._read(found), found.version)

    def update(self, user: str, change: Callable[[T], T | None]) -> Session[T]:
        """Change the user's session: `change` gets a copy and alters it, or returns another.

        Read, change, compare and set; again after a conflict, with jitter, for at most 64 tries or 5 s. Where there is
        no session at the first read, one is created from the default. Raises Contended, SessionDeleted where it was
        deleted meanwhile, StoreAway (repeat the update), InvalidRecord.
        """
        ends = time.monotonic() + LONGEST_SECONDS
        existed = False
        for _ in range(MOST_TRIES):
            record = self._provider.get_session(user)
            if record is None and existed:
                raise SessionDeleted(user)
            value = self._default() if record is None else self._read(record)
            changed = value.model_copy(deep=True)
            changed = change(changed) or changed
            try:
                return Session(changed, self._write(user, record, changed, ends))
            except Conflict:
                existed = True
            if time.monotonic() >= ends:
                break
            _pause()
        raise Contended(f"{user}: other writers were first, for {MOST_TRIES} tries or {LONGEST_SECONDS:g} s")

    def delete(self, user: str) -> bool:
        """Delete the user's session; True where there was one. Each write that read before it is refused."""
        return self._provider.delete_session(user)

    def stats(self, after: str | None = None, limit: int = 1000) -> Stats:
        """The number of live sessions, and a page of their users."""
        return self._provider.get_stats(after, limit)

    def _write(self, user: str, record: Record | None, value: T, ends: float) -> str:
        """Compare and set; a write whose answer was lost is repeated with the version that it drew."""
        data = _data(value) if record is None else _written(value, record.data)
        expected, drawn = record.version if record else None, new_version()
        while True:
            try:
                expires_at = record.expires_at if record else None
                return self._provider.set_session(user, data, expected, new_version=drawn, expires_at=expires_at)
            except StoreAway:
                if time.monotonic() >= ends:
                    raise
                _pause()

    def _read(self, record: Record) -> T:
        try:
            return self._model.model_validate(record.data)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
            raise InvalidRecord(f"{self._model.__name__}: {fields}") from error


class LLMSession(BaseModel):
    """The session of an application that talks to language models: which model the user has chosen."""

    current_model_name: str


def update_user_model(sessions: UserSessions[LLMSession], user: str, name: str) -> None:
    """Choose a model for a user."""
    sessions.update(user, lambda session: session.model_copy(update={"current_model_name": name}))


def get_user_model(sessions: UserSessions[LLMSession], user: str) -> str:
    """The model that a user has chosen, else the default."""
    return sessions.get(user).value.current_model_name


def _pause() -> None:
    time.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311 (jitter)


def _data(value: BaseModel) -> Data:
    return value.model_dump(mode="json", by_alias=True)


def _written(value: BaseModel, stored: dict[str, Any]) -> Data:
    """The model's fields over the stored ones: fields that the model does not know are kept, in nested models too."""
    data = _data(value)
    names = {field.serialization_alias or field.alias or name: name for name, field in type(value).model_fields.items()}
    for key, name in names.items():
        nested, before = getattr(value, name), stored.get(key)
        if isinstance(nested, BaseModel) and isinstance(before, dict):
            data[key] = _written(nested, before)
    return {**{key: each for key, each in stored.items() if key not in names}, **data}
