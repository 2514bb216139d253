"""The flag of early sessions: which callers may create a chat before its first message. It applies to creation only.

The flag is off unless an operator turned it on. Variants are `on` and `off`;
reasons are OpenFeature's: DISABLED (kill switch), DEFAULT (it is not set), STATIC (the same for all callers),
TARGETING_MATCH (a list names the caller), SPLIT (by the share of the rollout), ERROR (a provider failed).
"""

import hashlib
import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from threading import Lock
from typing import Any

from api.auth.callers import Caller
from api.settings import Settings, SettingsError

log = logging.getLogger("lull.flags")

EARLY_SESSIONS = "earlySessionCreation"
SALT = "lull early session creation"
BUCKETS = 10_000


@dataclass(frozen=True)
class Decision:
    """What a flag is for a caller, and why."""

    value: bool
    variant: str
    reason: str


Decide = Callable[[Caller], Decision]


def decide(settings: Settings, caller: Caller) -> Decision:
    """Decide by the settings alone. A caller gets the same answer each time, and keeps it as the percentage grows."""
    named = [settings.enable_early_session_creation, settings.next_public_enable_early_session_creation]
    given = [value for value in named if value is not None]
    if settings.early_session_kill_switch:
        return _decision(False, "DISABLED")
    if not given:
        return _decision(False, "DEFAULT")
    if any(value != "true" for value in given):
        return _decision(False, "STATIC")
    if caller.user_id in settings.early_session_deny:
        return _decision(False, "TARGETING_MATCH")
    if caller.user_id in settings.early_session_allow:
        return _decision(True, "TARGETING_MATCH")
    share = settings.early_session_rollout_percent
    if share in (0, 100):
        return _decision(share == 100, "STATIC")
    key = key_of(caller)
    return _decision(key is not None and _bucket(key) < share * BUCKETS / Decimal(100), "SPLIT")


def key_of(caller: Caller) -> str | None:
    """The key of a caller in the rollout: the user id, or the session token's hash; None without both."""
    return str(caller.user_id) if caller.user_id else caller.token_hash


def create_flags(settings: Settings) -> Decide:
    """The decision function that the settings name. Raises SettingsError when the provider cannot be found."""
    if settings.flag_provider is None:
        return partial(decide, settings)
    module, _, name = settings.flag_provider.partition(":")
    try:
        provider = getattr(importlib.import_module(module), name)
        importlib.import_module("openfeature")
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"FLAG_PROVIDER: {error}") from error
    return _Provided(settings, provider)


class _Provided:
    """Asks an OpenFeature provider, which is created at the first evaluation. On any error the flag is off."""

    def __init__(self, settings: Settings, provider: Callable[[], Any]) -> None:
        self._settings = settings
        self._provider = provider
        self._client: Any = None
        self._lock = Lock()

    def __call__(self, caller: Caller) -> Decision:
        if self._settings.early_session_kill_switch:
            return _decision(False, "DISABLED")
        try:
            return self._ask(caller)
        except Exception:  # a provider is third-party code
            log.exception("flag provider failed")
            return _decision(False, "ERROR")

    def _ask(self, caller: Caller) -> Decision:
        from openfeature.evaluation_context import EvaluationContext
        from openfeature.provider import ProviderStatus

        client = self._connected()
        if client.get_provider_status() not in {ProviderStatus.READY, ProviderStatus.STALE}:
            return _decision(False, "ERROR")
        details = client.get_boolean_details(
            EARLY_SESSIONS,
            False,
            EvaluationContext(key_of(caller), {"kind": "user" if caller.user_id else "anonymous"}),
        )
        value = details.value is True
        return Decision(value, details.variant or _variant(value), str(details.reason or "UNKNOWN"))

    def _connected(self) -> Any:
        from openfeature import api

        with self._lock:
            if self._client is None:
                provider = self._provider()
                self._client = api.get_client(domain="lull")
                # Raises when the provider is not ready in time; it may become ready later.
                api.set_provider_and_wait(provider, domain="lull")
            return self._client


def _decision(value: bool, reason: str) -> Decision:
    return Decision(value, _variant(value), reason)


def _variant(value: bool) -> str:
    return "on" if value else "off"


def _bucket(key: str) -> int:
    digest = hashlib.sha256(f"{SALT}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS
