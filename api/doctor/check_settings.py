"""Checks of the settings alone: secrets, the store of user sessions, the webhook."""

import math
import re
from collections import Counter
from collections.abc import Callable

import jwt
from pydantic import SecretStr

from api.auth.secrets import SHORTEST_SECRET
from api.doctor.check_result import CheckResult, fail, ok, warn
from api.errors import Problem
from api.settings import Settings

_NEW_SECRET = "openssl rand -base64 32"  # noqa: S105 - the command that makes one
_PLACEHOLDERS = ("changeme", "changethis", "yoursecret", "yourcronsecret", "replaceme", "password", "insert")
_WORDS = ("secret", "password", "token", "admin", "example", "qwerty", "12345", "abcde")
_FEWEST_CHARACTERS = 6  # different ones; 16 random hexadecimal digits have fewer once in 5,000
_FEWEST_BITS = 40


def check_secrets(settings: Settings) -> list[CheckResult]:
    """Secrets are long, random, and used for one purpose each. No value is shown."""
    known = {
        name.upper(): value.get_secret_value().strip()
        for name, value in settings
        if isinstance(value, SecretStr) and value.get_secret_value().strip()
    }
    found = []
    if "CRON_SECRET" not in known:
        message = "CRON_SECRET is not set: the cleanup answers 503 to all callers, its scheduler included."
        found.append(fail("secrets", message, f"set it to the output of `{_NEW_SECRET}`, then redeploy"))
    for name in ("CRON_SECRET", "SERVICE_SECRET"):
        if name in known:
            found += _strength(name, known[name])
    found += _shared(known)
    if previous := known.get("CRON_SECRET_PREVIOUS"):
        same = " (it is the same as CRON_SECRET)" if previous == known.get("CRON_SECRET") else ""
        message = f"CRON_SECRET_PREVIOUS is still set{same}: the old secret opens the admin routes."
        found.append(warn("secrets", message, "unset it when every scheduler sends the new one"))
    found += _key(known.get("SUPABASE_SECRET_KEY", ""), settings.supabase_url or "")
    set_ones = [name for name in ("CRON_SECRET", "SERVICE_SECRET") if name in known]
    return found or [ok("secrets", f"{' and '.join(set_ones)} set, long enough, each for one purpose")]


def _strength(name: str, value: str) -> list[CheckResult]:
    fix = f"set it to the output of `{_NEW_SECRET}`, then redeploy"
    letters = re.sub(r"[^a-z0-9]", "", value.lower())
    bits = -sum(n * math.log2(n / len(value)) for n in Counter(value).values())
    if len(value) < SHORTEST_SECRET:
        message = f"{name} is shorter than {SHORTEST_SECRET} characters: it opens nothing."
    elif letters.startswith(_PLACEHOLDERS) or re.fullmatch(r"(.+?)\1+.{0,6}", value):
        message = f"{name} is a placeholder or a repetition, not a secret."
    elif len(set(value)) < _FEWEST_CHARACTERS:
        message = f"{name} is made of only {len(set(value))} different characters."
    else:
        if bits < _FEWEST_BITS or value.isdecimal() or any(word in letters for word in _WORDS):
            return [warn("secrets", f"{name} looks made up by a person, not random.", fix)]
        return []
    return [fail("secrets", message, fix)]


def _shared(known: dict[str, str]) -> list[CheckResult]:
    """Two secrets with one value: a holder of one would have the other's rights."""
    names = [name for name in known if name != "CRON_SECRET_PREVIOUS"]
    return [
        fail("secrets", f"{one} and {other} are the same value.", f"give {one} a value of its own")
        for position, one in enumerate(names)
        for other in names[position + 1 :]
        if known[one] == known[other]
    ]


def _key(key: str, url: str) -> list[CheckResult]:
    """A browser's key instead of the secret key, or a legacy key on a hosted project."""
    role = None
    if key.count(".") == 2:
        try:
            role = jwt.decode(key, options={"verify_signature": False}).get("role")
        except jwt.InvalidTokenError:
            role = "unreadable"
    if key.startswith("sb_publishable_") or role not in (None, "service_role"):
        message = "SUPABASE_SECRET_KEY is not a secret key: it is one for browsers, or no key at all."
        return [fail("secrets", message, "copy the secret key (sb_secret_…): Supabase > Settings > API Keys")]
    if role and url.endswith((".supabase.co", ".supabase.co/")):
        message = "SUPABASE_SECRET_KEY is a legacy service_role key; they end with the year 2026."
        return [warn("secrets", message, "make a secret key (sb_secret_…): Supabase > Settings > API Keys")]
    return []


def check_store(settings: Settings) -> list[CheckResult]:
    """The store `memory` loses its data with the process; serverless platforms end processes often."""
    platform = (settings.vercel and "Vercel") or (settings.aws_lambda_function_name and "AWS Lambda") or None
    if settings.user_session_store != "memory":
        return [ok("user-sessions", f"kept in {settings.user_session_store}")]
    fix = "set USER_SESSION_STORE=postgres, then redeploy"
    if platform:
        message = f"USER_SESSION_STORE=memory on {platform}: every instance has its own, and loses it."
        return [fail("user-sessions", message, fix)]
    message = "USER_SESSION_STORE=memory: user sessions are lost with the process, and not shared with other processes."
    return [warn("user-sessions", message, fix)]


def check_webhook(settings: Settings, receiver: Callable[[], object]) -> list[CheckResult]:
    """Whether the webhook is usable. `receiver` raises the Problem that a delivery would raise."""
    if settings.events_webhook_url is None:
        if settings.events_webhook_secret is None:
            return [ok("webhook", "none: events stay in the event log")]
        fix = "set EVENTS_WEBHOOK_URL, or unset EVENTS_WEBHOOK_SECRET"
        return [warn("webhook", "EVENTS_WEBHOOK_SECRET is set and EVENTS_WEBHOOK_URL is not.", fix)]
    try:
        receiver()
    except Problem as problem:
        fix = "correct it (EVENTS_WEBHOOK_SECRET: `echo whsec_$(openssl rand -base64 32)`), then redeploy"
        return [fail("webhook", f"No event is delivered: {problem.detail}", fix)]
    if settings.events_webhook_allow_private and (settings.vercel or settings.aws_lambda_function_name):
        message = "EVENTS_WEBHOOK_ALLOW_PRIVATE=true is for development: events may go unencrypted."
        return [warn("webhook", message, "unset it, then redeploy")]
    return [ok("webhook", "set, and signed")]
