"""The public keys that a project signs its users' tokens with, fetched when needed and kept for a while."""

import logging
import time
from threading import Lock
from typing import Any

import httpx
import jwt

from api.errors import Problem

log = logging.getLogger("lull.auth")

ALGORITHMS = {"ES256", "RS256", "EdDSA"}
TIMEOUT_SECONDS = 5


class KeySet:
    """The keys at one address, by key id. Safe to share between threads.

    A key id that is not known yet is looked for at the address, so that a rotation needs no restart; but at
    most once in `patience` seconds, so that made-up ids cannot hammer it. Keys are fetched again after
    `lifetime`, so that a withdrawn key stops working; while the address does not answer, the ones at hand
    serve for `grace` seconds more.
    """

    def __init__(
        self, address: str, *, lifetime: float = 600, grace: float = 3600, patience: float = 5
    ) -> None:
        self._address = address
        self._lifetime, self._grace, self._patience = lifetime, grace, patience
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._lock = Lock()

    def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key with this id, or None when there is none. Raises 503 when the address had to answer."""
        if key_id in self._keys and self._within(self._fetched_at, self._lifetime):
            return self._keys[key_id]
        with self._lock:
            if not self._within(self._tried_at, self._patience):
                self._fetch()
            answered = self._fetched_at == self._tried_at
            if answered or self._within(self._fetched_at, self._lifetime + self._grace):
                key = self._keys.get(key_id)
                if key is not None or answered:
                    return key
        raise Problem(
            503,
            "keys-unavailable",
            "The keys that users' tokens are signed with cannot be fetched. Try again later.",
        )

    def _within(self, since: float | None, seconds: float) -> bool:
        return since is not None and time.monotonic() - since < seconds

    def _fetch(self) -> None:
        """Ask the address; the patience begins when it has answered, or has not."""
        try:
            entries = httpx.get(self._address, timeout=TIMEOUT_SECONDS).raise_for_status().json()["keys"]
            self._keys = dict(filter(None, (_usable(entry) for entry in entries)))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("keys unreachable", extra={"fields": {"error": repr(error)}})
            self._tried_at = time.monotonic()
        else:
            self._fetched_at = self._tried_at = time.monotonic()


def _usable(entry: Any) -> tuple[str, jwt.PyJWK] | None:
    """(id, key) of an entry that users' tokens can be signed with; None for any other."""
    try:
        if entry.get("use", "sig") != "sig":
            return None
        key = jwt.PyJWK(entry)
    except (jwt.PyJWTError, AttributeError, ValueError, TypeError):
        return None
    return (entry["kid"], key) if key.algorithm_name in ALGORITHMS and key.key_id else None
