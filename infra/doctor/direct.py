"""Checks of the database without PostgREST, and of PostgREST without the API."""

import re
import time

import httpx
import jwt
import psycopg
from pydantic import ValidationError

from api.doctor.check_result import CheckResult, fail, not_checked, ok
from api.doctor.schemas import DatabaseState
from api.http.sentences import some
from api.settings import Settings
from infra.doctor.release import Release

_SECONDS = 5
_ASKED = ("schema-cache", "exposure")
_PROBE = "/rest/v1/rpc/lull_cleanup_health"  # reads a few numbers, and changes nothing


def read_state_directly(database_url: str) -> DatabaseState | CheckResult:
    """Read the state of the database at DATABASE_URL. Returns a CheckResult when that is not possible."""
    try:
        with psycopg.connect(database_url, connect_timeout=_SECONDS, autocommit=True) as connection:
            connection.execute(f"set statement_timeout = '{_SECONDS}s'")
            row = connection.execute("select public.lull_inspect()").fetchone()
            return DatabaseState.model_validate(row[0] if row else None)
    except (psycopg.errors.UndefinedFunction, ValidationError):
        message = "The database at DATABASE_URL lacks functions of this release."
        return fail("database-url", message, "make migrate")
    except psycopg.Error as error:
        message = f"The database at DATABASE_URL cannot be asked: {_reason(str(error))}."
        return fail("database-url", message, "copy it anew: Supabase > Connect > Session pooler")


def _reason(said: str) -> str:
    """libpq's error in our words: its own text may quote a password that was read as a port."""
    known = {
        "authentication|no such user|user not found": "it refuses the user or the password",
        "refused|unreachable|server closed": "nothing listens there",
        "time": "it took too long",
        "translate|resolve": "its host name is unknown",
        "does not exist": "there is no such database or user",
        "permission denied": "the user has no right to call Lull's functions",
    }
    reasons = (reason for words, reason in known.items() if re.search(words, said, re.IGNORECASE))
    return next(reasons, "libpq cannot use it; write special characters of the password as %xx")


def check_same_database(direct: DatabaseState, through: DatabaseState | None) -> CheckResult:
    """DATABASE_URL and SUPABASE_URL lead to the same database; else `make migrate` changes the wrong one."""
    if through is not None and direct.migrations != through.migrations:
        message = "DATABASE_URL is another database than the one behind SUPABASE_URL."
        return fail("database-url", message, "correct one of them before you migrate")
    if through is None:
        return ok("database-url", "answers; whether it is the one behind SUPABASE_URL is not known")
    return ok("database-url", "the database behind SUPABASE_URL")


def check_postgrest(settings: Settings, release: Release, anon_key: str | None) -> list[CheckResult]:
    """PostgREST knows every operation, and refuses callers without a key or with a browser's key."""
    url, key = settings.supabase_url, settings.supabase_secret_key
    if url is None or key is None:
        return [not_checked(name, "SUPABASE_URL or the key is not set") for name in _ASKED]
    secret = key.get_secret_value().strip()
    with httpx.Client(base_url=url.rstrip("/"), timeout=_SECONDS, verify=_is_https(url)) as client:
        try:
            return [_schema_cache(client, release, secret), _exposure(client, settings, anon_key)]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            why = f"PostgREST did not answer ({type(error).__name__})"
            return [not_checked(name, why) for name in _ASKED]


def _is_https(url: str) -> bool:
    """Whether TLS is needed. Without it, loading the CA certificates is skipped, which is slow."""
    return url.startswith("https:")


def _schema_cache(client: httpx.Client, release: Release, key: str) -> CheckResult:
    """Whether PostgREST has read the schema since the last migration.

    Its list of functions is no proof, because it is read from the database. OPTIONS is answered from the schema cache,
    for functions that need no argument.
    """
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    names = sorted(release.operations)
    answers = {name: client.options(f"/rest/v1/rpc/{name}", headers=headers) for name in names}
    unknown = [name for name, answer in answers.items() if "PGRST202" in answer.text]
    if unknown:
        message = f"PostgREST does not know {some(unknown)}."
        return fail("schema-cache", message, "make migrate; if it stays: notify pgrst, 'reload schema'")
    if not all(answer.is_success for answer in answers.values()):
        return not_checked("schema-cache", "PostgREST answers no OPTIONS here, or not to this key")
    return ok("schema-cache", f"PostgREST knows {', '.join(names)}")


def _exposure(client: httpx.Client, settings: Settings, anon_key: str | None) -> CheckResult:
    """Call an operation as an unauthenticated caller and with a browser's key."""
    if anon_key is None and settings.supabase_jwt_secret is not None:
        claims = {"role": "anon", "exp": int(time.time()) + 60}
        anon_key = jwt.encode(claims, settings.supabase_jwt_secret.get_secret_value(), algorithm="HS256")
    strangers: dict[str, dict[str, str]] = {"callers without a key": {}}
    if anon_key:
        strangers["those with a browser's key"] = {"apikey": anon_key, "Authorization": f"Bearer {anon_key}"}
    for who, headers in strangers.items():
        answer = client.post(_PROBE, json={"p_interval_minutes": 15}, headers=headers)
        if answer.is_success and isinstance(answer.json(), dict):
            message = f"PostgREST executes lull_cleanup_health for {who}."
            return fail("exposure", message, "make migrate")
    return ok("exposure", f"PostgREST refuses {' and '.join(strangers)}")
