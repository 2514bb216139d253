"""A small HTTP server that publishes keys as a project does, and users' tokens signed with them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PATH = "/auth/v1/.well-known/jwks.json"
MAKERS: dict[str, Any] = {
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class SigningKey:
    """A key pair, and the entry by which its public half is published."""

    def __init__(self, algorithm: str = "ES256") -> None:
        make, family = MAKERS[algorithm]
        self.id, self.algorithm, self.private = str(uuid4()), algorithm, make()
        entry: dict[str, Any] = json.loads(family.to_jwk(self.private.public_key()))
        self.entry = entry | {"kid": self.id, "alg": algorithm, "use": "sig"}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token of these claims; `header` replaces or adds."""
        headers = {"kid": self.id, **header}
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers=headers)


class KeyServer(ThreadingHTTPServer):
    """Publishes `keys`; answers `status` instead when that is no 200. Counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[dict[str, Any]] = []
        self.status = 200
        self.asked = 0
        self._hold: Hold | None = None

    @property
    def url(self) -> str:
        """The project's address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def held(self) -> Iterator["Hold"]:
        """Let every request that comes while the block lasts wait for its release."""
        self._hold = Hold()
        try:
            yield self._hold
        finally:
            self._hold.release()
            self._hold = None

    def wait_if_held(self) -> None:
        """Wait in a request's thread."""
        if self._hold is not None:
            self._hold.wait()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a signed-in user of this project; a change to None takes a claim away."""
        now = int(time.time())
        standard = {
            "iss": f"{self.url}/auth/v1",
            "aud": "authenticated",
            "role": "authenticated",
            "sub": str(uuid4()),
            "iat": now,
            "exp": now + 3600,
        }
        return {name: value for name, value in (standard | changes).items() if value is not None}


class Hold:
    """Holds up requests until it is released."""

    def __init__(self) -> None:
        self._asked, self._released = threading.Event(), threading.Event()

    def wait(self) -> None:
        """Wait for the release."""
        self._asked.set()
        self._released.wait(10)

    def wait_until_asked(self) -> None:
        """Wait until a request is held up."""
        assert self._asked.wait(10)

    def release(self) -> None:
        """Let all requests go on."""
        self._released.set()


class _Handler(BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.wait_if_held()
        found = self.server.status == 200 and self.path == PATH
        body = json.dumps({"keys": self.server.keys}).encode() if found else b"<html>down</html>"
        self.send_response(self.server.status if found else max(self.server.status, 404))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def key_server(*keys: SigningKey) -> Iterator[KeyServer]:
    """Run such a server while the block lasts."""
    server = KeyServer()
    server.keys = [key.entry for key in keys]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
