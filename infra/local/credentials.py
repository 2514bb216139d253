"""The secrets of a local stack: generated once, kept in its home, overridden by the environment."""

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
    """What the parts of the stack and their callers prove themselves with."""

    database_password: str
    jwt_secret: str
    cron_secret: str
    service_secret: str

    @property
    def secret_key(self) -> str:
        """Return the local counterpart of a project's secret key: a token of role service_role."""
        return self.key("service_role")

    def key(self, role: str) -> str:
        """Return an API key: a token of that database role, signed with the project's secret."""
        claims = {"iss": "supabase", "ref": "local", "role": role, "iat": ISSUED_AT, "exp": EXPIRES_AT}
        return jwt.encode(claims, self.jwt_secret, algorithm="HS256")


def load(home: Path, environ: Mapping[str, str]) -> Credentials:
    """Return the home's secrets, generated where missing; values in the environment win and are not kept."""
    path = home / FILE
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    names = ("database_password", "jwt_secret", "cron_secret", "service_secret")
    complete = {name: kept.get(name) or secrets.token_hex(32) for name in names}
    if complete != kept:
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
    )
