"""The check of the flag variables: each value, their combination, and the resulting state in words."""

from collections.abc import Callable

from api.doctor.check_result import CheckResult, fail, ok, warn
from api.flags import Decide
from api.settings import Settings, SettingsError

_LOOKS_ON = {"true", "1", "yes", "on", "t", "y"}
_LOOKS_OFF = {"false", "0", "no", "off", "f", "n"}


def check_flag(settings: Settings, decide: Callable[[], Decide]) -> list[CheckResult]:
    """Check the flag variables. Only exactly `true` is on. `decide` creates the provider; raises SettingsError."""
    try:
        decide()
    except SettingsError as error:
        message = f"The provider cannot be found. {error}"
        return [fail("flag", message, "correct FLAG_PROVIDER, then redeploy")]
    state = _state(settings)
    if settings.early_session_kill_switch:
        message = f"EARLY_SESSION_KILL_SWITCH is on: {state}."
        return [warn("flag", message, "unset it when the incident is over, then redeploy")]
    if settings.flag_provider:
        return [ok("flag", state)]
    found = [result for name, value in _given(settings).items() for result in _spelling(name, value, state)]
    values = set(_given(settings).values())
    if not found and len(values) > 1:
        both = " and ".join(f"{name}={value}" for name, value in _given(settings).items())
        message = f"{both} disagree, and on needs both: {state}."
        found.append(fail("flag", message, "set both to the same value, then redeploy the front end too"))
    limited = settings.early_session_rollout_percent != 100 or settings.early_session_allow
    if values != {"true"} and limited and not found:
        message = f"EARLY_SESSION_ROLLOUT_PERCENT or _ALLOW is set, and the flag is not: {state}."
        found.append(warn("flag", message, "set ENABLE_EARLY_SESSION_CREATION=true to begin the rollout"))
    return found or [ok("flag", state)]


def _given(settings: Settings) -> dict[str, str]:
    named = {
        "ENABLE_EARLY_SESSION_CREATION": settings.enable_early_session_creation,
        "NEXT_PUBLIC_ENABLE_EARLY_SESSION_CREATION": settings.next_public_enable_early_session_creation,
    }
    return {name: value for name, value in named.items() if value is not None}


def _spelling(name: str, value: str, state: str) -> list[CheckResult]:
    """The value is shown only if it is a usual word such as `yes`: it could be a secret in the wrong variable."""
    if value in ("true", "false"):
        return []
    meant = value.strip().lower()
    shown = f'is "{value}"' if meant in _LOOKS_ON | _LOOKS_OFF else "is neither true nor false"
    message = f"{name} {shown}; only exactly `true` counts as on: {state}."
    if meant in _LOOKS_OFF:
        return [warn("flag", message, f"set {name}=false, which is unambiguous")]
    return [fail("flag", message, f"set {name}=true or {name}=false in lower case, then redeploy")]


def _state(settings: Settings) -> str:
    """The state of the flag in words."""
    if settings.early_session_kill_switch:
        return "early drafts are off for all callers"
    if settings.flag_provider:
        return f"the provider {settings.flag_provider} decides who gets early drafts"
    given = _given(settings)
    if not given:
        return "early drafts are off (the flag is not set); chats begin with their first message"
    if set(given.values()) != {"true"}:
        return "early drafts are off; chats begin with their first message"
    share, named = settings.early_session_rollout_percent, len(settings.early_session_allow)
    callers = "all callers" if share == 100 else "no callers" if share == 0 else f"{share} % of callers"
    more = f" and {named} named users" if named and share != 100 else ""
    denied = len(settings.early_session_deny)
    return f"early drafts are on for {callers}{more}" + (f", except {denied} named users" if denied else "")
