"""Functions called through Supabase's PostgREST: POST /rest/v1/rpc/<function>."""

import json
from typing import Any
from urllib.parse import quote

from api.database.http import HTTPError, server_at
from api.database.threads import in_thread
from api.errors import DatabaseRefusal, DatabaseUnavailable
from api.project import Project


class PostgREST:
    """Calls functions through one project's PostgREST; connections are kept open."""

    credentials = "SUPABASE_SECRET_KEY"

    def __init__(self, project: Project) -> None:
        self._server = server_at(project.url)
        self._headers = {
            "apikey": project.key,
            "Authorization": f"Bearer {project.key}",
            "Content-Type": "application/json",
        }

    def call(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Call a function; the time-out is for the connection, and for each read."""
        body = json.dumps(arguments, allow_nan=False).encode()
        try:
            status, answer = self._server.post(
                f"/rest/v1/rpc/{quote(function)}", body, self._headers, timeout_seconds
            )
        except HTTPError as error:
            raise DatabaseUnavailable from error.__cause__
        if not 200 <= status <= 299:
            raise _refusal(status, answer)
        try:
            return json.loads(answer)
        except ValueError as error:  # a proxy's HTML page with status 200
            raise DatabaseUnavailable from error

    async def ask(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Do `call` in a thread."""
        return await in_thread(self.call, function, arguments, timeout_seconds)

    def close(self) -> None:
        """Close the connections that are idle."""
        self._server.close()


def _refusal(status: int, answer: bytes) -> DatabaseRefusal:
    """What PostgREST said; the HTTP status stands for the code of whoever speaks no JSON."""
    try:
        said = json.loads(answer)
        words = [said.get(name) for name in ("code", "message", "details", "hint")]
    except (ValueError, AttributeError):
        return DatabaseRefusal(str(status), "no JSON")
    return DatabaseRefusal(*(None if word is None else str(word) for word in words))
