"""A project's JWKS (the public keys of its users' tokens), fetched on demand and cached."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Any

import httpx
import jwt

from api.errors import Problem

log = logging.getLogger("lull.auth")

ALGORITHMS = {"ES256", "RS256", "EdDSA"}
TIMEOUT_SECONDS = 5
MOST_WAITING = 16  # threads of the 40 that answer requests


class KeySet:
    """The JWKS at one address, by key id. Safe to share between threads. All times are in seconds.

    An unknown key id causes a fetch, so that a key rotation needs no restart. There is at most one fetch in
    `retry_after` seconds, so that made-up key ids cannot overload the address. Keys are fetched again after
    `lifetime`, so that a withdrawn key stops working. While the address does not answer, cached keys are used
    for `grace` more.

    One thread fetches at a time. Meanwhile known keys are answered from the cache, and at most 16 threads wait for
    the others: a slow address and made-up key ids leave threads for users whose key is known.
    """

    def __init__(self, address: str, *, lifetime: float = 600, grace: float = 3600, retry_after: float = 5) -> None:
        self._address = address
        self._lifetime, self._grace, self._retry_after = lifetime, grace, retry_after
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._lock = Lock()
        self._waiting = BoundedSemaphore(MOST_WAITING)

    def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key with this id; None when the JWKS lacks it. Raises Problem 503 when the JWKS cannot be fetched."""
        keys = self._keys
        if key_id in keys and self._within(self._fetched_at, self._lifetime):
            return keys[key_id]
        if key_id in keys and self._lock.locked() and self._within(self._fetched_at, self._lifetime + self._grace):
            return keys[key_id]
        with self._turn():
            if not self._within(self._tried_at, self._retry_after):
                self._fetch()
            answered = self._fetched_at == self._tried_at
            if answered or self._within(self._fetched_at, self._lifetime + self._grace):
                key = self._keys.get(key_id)
                if key is not None or answered:
                    return key
        raise _unavailable()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock; raise 503 instead of waiting for it where many wait already."""
        if not self._waiting.acquire(blocking=False):
            raise _unavailable()
        try:
            with self._lock:
                yield
        finally:
            self._waiting.release()

    def _within(self, since: float | None, seconds: float) -> bool:
        return since is not None and time.monotonic() - since < seconds

    def _fetch(self) -> None:
        """Fetch the JWKS. `retry_after` counts from the end of the fetch, successful or not."""
        try:
            entries = httpx.get(self._address, timeout=TIMEOUT_SECONDS).raise_for_status().json()["keys"]
            self._keys = dict(filter(None, (_usable(entry) for entry in entries)))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("keys unreachable", extra={"fields": {"error": repr(error)}})
            self._tried_at = time.monotonic()
        else:
            self._fetched_at = self._tried_at = time.monotonic()


def _unavailable() -> Problem:
    return Problem(
        503, "keys-unavailable", "The keys that users' tokens are signed with cannot be fetched. Try again later."
    )


def _usable(entry: Any) -> tuple[str, jwt.PyJWK] | None:
    """(id, key) of a JWKS entry that can sign users' tokens; None for any other entry."""
    try:
        if entry.get("use", "sig") != "sig":
            return None
        key = jwt.PyJWK(entry)
    except (jwt.PyJWTError, AttributeError, ValueError, TypeError):
        return None
    return (entry["kid"], key) if key.algorithm_name in ALGORITHMS and key.key_id else None
