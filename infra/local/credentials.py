"""The secrets of a local stack: generated once, stored in its home, overridden by the environment."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jwt

from infra.local.environment import write_private
from infra.local.errors import StackError

FILE = "secrets.json"
MINIMUM_JWT_SECRET = 32  # PostgREST refuses less
# Fixed, so that the key of a home is the same on every start.
ISSUED_AT = 1_767_225_600  # 2026-01-01
EXPIRES_AT = 2_082_758_400  # 2036-01-01


@dataclass(frozen=True)
class Credentials:
    """The secrets of the stack's parts and their callers."""

    database_password: str
    jwt_secret: str
    cron_secret: str
    service_secret: str

    given_secret_key: str | None = None
    given_anon_key: str | None = None

    @property
    def secret_key(self) -> str:
        """Return the local counterpart of a project's secret key: a token of role service_role."""
        return self.given_secret_key or self.key("service_role")

    @property
    def anon_key(self) -> str:
        """Return the local counterpart of a project's key for browsers: a token of role anon."""
        return self.given_anon_key or self.key("anon")

    def key(self, role: str) -> str:
        """Return an API key: a token of that database role, signed with the project's secret."""
        claims = {"iss": "supabase", "ref": "local", "role": role, "iat": ISSUED_AT, "exp": EXPIRES_AT}
        return jwt.encode(claims, self.jwt_secret, algorithm="HS256")


def load(home: Path, environ: Mapping[str, str]) -> Credentials:
    """Return the home's secrets, generated where missing; values in the environment win and are not stored."""
    path = home / FILE
    stored: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    names = ("database_password", "jwt_secret", "cron_secret", "service_secret")
    complete = {name: stored.get(name) or secrets.token_hex(32) for name in names}
    if complete != stored:
        write_private(path, json.dumps(complete, indent=2) + "\n")
    jwt_secret = environ.get("SUPABASE_JWT_SECRET") or complete["jwt_secret"]
    if len(jwt_secret) < MINIMUM_JWT_SECRET:
        raise StackError(
            f"SUPABASE_JWT_SECRET has {len(jwt_secret)} characters; it needs {MINIMUM_JWT_SECRET} or more."
        )
    return Credentials(
        database_password=complete["database_password"],
        jwt_secret=jwt_secret,
        cron_secret=environ.get("CRON_SECRET") or complete["cron_secret"],
        service_secret=environ.get("SERVICE_SECRET") or complete["service_secret"],
        given_secret_key=_given_key(environ, "SUPABASE_SECRET_KEY", "service_role", jwt_secret),
        given_anon_key=_given_key(environ, "SUPABASE_ANON_KEY", "anon", jwt_secret),
    )


def _given_key(environ: Mapping[str, str], name: str, role: str, jwt_secret: str) -> str | None:
    """Return a key that the environment gives; raise StackError when the local gateway would refuse it."""
    key = environ.get(name)
    if not key or environ.get("SUPABASE_URL"):
        return None
    try:
        claims = jwt.decode(key, jwt_secret, algorithms=["HS256"], options={"verify_aud": False})
    except jwt.InvalidTokenError:
        claims = {}
    if claims.get("role") != role:
        raise StackError(
            f"{name} is set, and is no key of the local Supabase. Unset it; or set SUPABASE_URL to its project;\n"
            "or set SUPABASE_JWT_SECRET to the secret that signed it."
        )
    return key
