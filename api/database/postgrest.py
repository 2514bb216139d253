"""Functions called through Supabase's PostgREST, by supabase-py's client of it: POST /rest/v1/rpc/<function>.

Only that client, the package `postgrest`, is imported: the whole of supabase-py adds 130 ms to a cold start.
"""

from collections import deque
from typing import Any

import httpx
from postgrest import APIError, SyncPostgrestClient

from api.database.threads import in_thread
from api.errors import DatabaseRefusal, DatabaseUnavailable
from api.settings import Project
from api.supabase_http import open_client, read_certificates, time_limit

_UNTRANSLATABLE_CHARACTER = "22P05"


class PostgREST:
    """Calls functions through one project's PostgREST; connections are kept open.

    Each call has a client to itself, which is made when none is idle. With one for all, 16 threads spent half of their
    time at the lock of its connections.
    """

    credentials = "SUPABASE_SECRET_KEY"

    def __init__(self, project: Project) -> None:
        self._project = project
        self._certificates = read_certificates(project.url)
        self._idle: deque[SyncPostgrestClient] = deque([self._new_client()])

    def call(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Call a function; the time-out is for the connection, and for each read.

        An answer of status 200 that is no JSON, such as a proxy's HTML page, comes back as text.
        """
        try:
            client = self._idle.pop()  # the one used last: its connection is open
        except IndexError:
            client = self._new_client()
        try:
            with time_limit(timeout_seconds):
                return client.rpc(function, arguments).execute().data
        except APIError as error:
            details = None if error.details is None else str(error.details)
            raise DatabaseRefusal(error.code, error.message, details, error.hint) from error
        except UnicodeEncodeError as error:  # half of a surrogate pair, which no request can carry
            raise DatabaseRefusal(_UNTRANSLATABLE_CHARACTER, str(error)) from error
        except (httpx.HTTPError, UnicodeDecodeError) as error:
            raise DatabaseUnavailable from error
        finally:
            self._idle.append(client)

    async def call_async(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Do `call` in a thread."""
        return await in_thread(self.call, function, arguments, timeout_seconds)

    def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            self._idle.pop().session.close()

    def _new_client(self) -> SyncPostgrestClient:
        headers = {"apikey": self._project.key, "Authorization": f"Bearer {self._project.key}"}
        http = open_client(self._project, self._certificates)
        return SyncPostgrestClient(
            f"{self._project.url}/rest/v1", headers=headers, http_client=http, retry_enabled=False
        )
