"""POST to one server over connections that are kept open, through the environment's proxy if it names one."""

import os
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Lock
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from api.database.idle import is_usable

_MOST_IDLE = 40  # as many as there are threads that may call


class HTTPError(Exception):
    """No whole answer came; its cause says why."""


class Server(Protocol):
    """Who is sent requests. Safe to share between threads."""

    def post(
        self, path: str, body: bytes, headers: dict[str, str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        """Send a body; return the status and the body of the answer. Repeats and follows nothing.

        The time-out is for the connection, and for each read. Raises HTTPError.
        """

    def close(self) -> None:
        """Close the connections that are idle."""


def server_at(url: str) -> Server:
    """The server at an address, below its path if it has one."""
    address = urlsplit(url)
    proxy = _proxy_for(address)
    return _Reached(address) if proxy is None else _BehindProxy(url, proxy)


class _Connection(HTTPConnection):
    idle_since = 0.0


class _SecureConnection(HTTPSConnection):
    idle_since = 0.0


class _Reached:
    """A server that connections are made to by the standard library's client."""

    def __init__(self, address: SplitResult) -> None:
        self._host, self._port, self._path = address.hostname or "", address.port, address.path
        self._idle: list[_Connection | _SecureConnection] = []
        self._lock = Lock()
        self._tls = None
        if address.scheme == "https":
            import ssl

            self._tls = ssl.create_default_context(cafile=_certificates())
            self._tls.set_alpn_protocols(["http/1.1"])

    def post(
        self, path: str, body: bytes, headers: dict[str, str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        connection = self._take() or self._new()
        connection.timeout = timeout_seconds
        if connection.sock is not None:
            connection.sock.settimeout(timeout_seconds)
        try:
            connection.request("POST", self._path + path, body, headers)
            response = connection.getresponse()
            answer = response.status, response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise HTTPError from error
        self._give_back(connection)
        return answer

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _new(self) -> _Connection | _SecureConnection:
        if self._tls is None:
            return _Connection(self._host, self._port)
        return _SecureConnection(self._host, self._port, context=self._tls)

    def _take(self) -> _Connection | _SecureConnection | None:
        """The connection that was used last and that nobody has closed since."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None or is_usable(connection.sock.fileno(), connection.idle_since):
                return connection
            connection.close()

    def _give_back(self, connection: _Connection | _SecureConnection) -> None:
        """Keep a connection, unless the server has ended it with its answer."""
        connection.idle_since = time.monotonic()
        if connection.sock is not None and len(self._idle) < _MOST_IDLE:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()


class _BehindProxy:
    """A server that a proxy is asked for, by urllib3: it can talk TLS to the one, the other, and both."""

    def __init__(self, url: str, proxy: str) -> None:
        from urllib3 import ProxyManager
        from urllib3.util import make_headers, parse_url

        there = parse_url(proxy)
        login = make_headers(proxy_basic_auth=unquote(there.auth)) if there.auth else None
        self._url = url
        self._http = ProxyManager(
            there._replace(auth=None).url, maxsize=_MOST_IDLE, ca_certs=_certificates(), proxy_headers=login
        )

    def post(
        self, path: str, body: bytes, headers: dict[str, str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        from urllib3 import Timeout, exceptions

        timeout = Timeout(connect=timeout_seconds, read=timeout_seconds)
        try:
            answer = self._http.urlopen(
                "POST",
                self._url + path,
                body=body,
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
            )
        except exceptions.HTTPError as error:
            raise HTTPError from error
        return answer.status, answer.data

    def close(self) -> None:
        self._http.clear()


def _certificates() -> str:
    given = os.environ.get("SSL_CERT_FILE")
    if given:
        return given
    import certifi

    return certifi.where()


def _proxy_for(address: SplitResult) -> str | None:
    """The proxy that the environment names for an address; looking closer takes long to import."""
    if not {f"{address.scheme}_proxy", "all_proxy"} & {name.lower() for name in os.environ}:
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    return None if not proxy or proxy_bypass(address.netloc) else proxy
