"""Functions called through Supabase's PostgREST: POST /rest/v1/rpc/<function>."""

import json
import os
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers, parse_url

from api.errors import DatabaseRefusal, DatabaseUnavailable
from api.project import Project

_MOST_CONNECTIONS = 40  # as many as there are threads that may call


class PostgREST:
    """Calls functions through one project's PostgREST; connections are kept open."""

    credentials = "SUPABASE_SECRET_KEY"

    def __init__(self, project: Project) -> None:
        self._http, address = _connections(project.url)
        self._address = f"{address}/rest/v1/rpc/"
        self._headers = {
            "apikey": project.key,
            "Authorization": f"Bearer {project.key}",
            "Content-Type": "application/json",
        }

    def call(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Call a function; the time-out is for the connection, and for each read."""
        body = json.dumps(arguments, allow_nan=False)
        try:
            answer = self._http.urlopen(
                "POST",
                self._address + function,
                body=body.encode(),
                headers=self._headers,
                timeout=Timeout(connect=timeout_seconds, read=timeout_seconds),
                retries=False,
                redirect=False,
            )
        except HTTPError as error:
            raise DatabaseUnavailable from error
        if not 200 <= answer.status <= 299:
            raise _refusal(answer)
        try:
            return json.loads(answer.data)
        except ValueError as error:  # a proxy's HTML page with status 200
            raise DatabaseUnavailable from error

    def close(self) -> None:
        """Close the connections that are idle."""
        if isinstance(self._http, ProxyManager):
            self._http.clear()
        else:
            self._http.close()


def _refusal(answer: BaseHTTPResponse) -> DatabaseRefusal:
    """What PostgREST said; the HTTP status stands for the code of whoever speaks no JSON."""
    try:
        said = json.loads(answer.data)
        words = [said.get(name) for name in ("code", "message", "details", "hint")]
    except (ValueError, AttributeError):
        return DatabaseRefusal(str(answer.status), "no JSON")
    return DatabaseRefusal(*(None if word is None else str(word) for word in words))


def _connections(url: str) -> tuple[HTTPConnectionPool | ProxyManager, str]:
    """What sends requests to an address, by the environment's proxy if any, and how they name it."""
    certificates = os.environ.get("SSL_CERT_FILE") or certifi.where()
    address, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(address.netloc):
        manager = PoolManager(maxsize=_MOST_CONNECTIONS, ca_certs=certificates)
        return manager.connection_from_url(url), address.path
    there = parse_url(proxy)
    login = make_headers(proxy_basic_auth=unquote(there.auth)) if there.auth else None
    proxied = ProxyManager(
        there._replace(auth=None).url, maxsize=_MOST_CONNECTIONS, ca_certs=certificates, proxy_headers=login
    )
    return proxied, url
