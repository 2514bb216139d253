"""One URL for a project, as on Supabase: `/rest/v1` is PostgREST, `/storage/v1` the stand-in for Storage.

Run as `python -m infra.local.gateway PORT POSTGREST_URL STORAGE_FOLDER` with SUPABASE_JWT_SECRET in the
environment.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.local.ports import HOST
from infra.local.storage import create_storage

KEYS = "/auth/v1/.well-known/jwks.json"
OPEN = {"/health", KEYS}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Hop-by-hop headers (RFC 9110, section 7.6.1), and headers that the client library sets itself.
NOT_FORWARDED = {
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
}
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)


def create_gateway(postgrest_url: str, jwt_secret: str, storage: ASGIApp | None = None) -> ASGIApp:
    """Return the gateway; without `storage` its routes answer 404."""
    client = httpx.AsyncClient(
        base_url=postgrest_url, trust_env=False, timeout=httpx.Timeout(90, connect=5), limits=LIMITS
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def rest(request: Request) -> Response:
        return await _forward(client, request)

    routes: list[Route | Mount] = [
        Route("/health", lambda _: JSONResponse({"status": "ok"})),
        # the answer of a project that signs its users' tokens with the JWT secret only
        Route(KEYS, lambda _: JSONResponse({"keys": []})),
        Route("/rest/v1/{path:path}", rest, methods=METHODS),
    ]
    if storage is not None:
        # browsers transfer files by signed URLs from pages of another origin
        anywhere = CORSMiddleware(storage, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
        routes.append(Mount("/storage/v1", app=anywhere))
    return KeyGuard(Starlette(routes=routes, lifespan=lifespan), jwt_secret)


class KeyGuard:
    """Refuse requests without an API key of this project.

    Storage checks keys itself, as on a hosted project: a signed URL needs no key.
    """

    def __init__(self, app: ASGIApp, jwt_secret: str) -> None:
        self._app = app
        self._jwt_secret = jwt_secret
        self._known: set[str] = set()  # verifying a signature costs more than the rest of the gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        refusal = self._refuse(Request(scope))
        await (refusal or self._app)(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        key = request.headers.get("apikey") or request.query_params.get("apikey")
        if not key:
            hint = "No `apikey` request header or url param was found."
            return JSONResponse({"message": "No API key found in request", "hint": hint}, 401)
        if key not in self._known:
            try:
                jwt.decode(key, self._jwt_secret, algorithms=["HS256"], options={"verify_aud": False})
            except jwt.InvalidTokenError:
                hint = "Double check your Supabase `anon` or `service_role` API key."
                return JSONResponse({"message": "Invalid API key", "hint": hint}, 401)
            self._known.add(key)
        return None


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith("/storage/v1/")


async def _forward(client: httpx.AsyncClient, request: Request) -> Response:
    headers = [(name, value) for name, value in request.headers.items() if name not in NOT_FORWARDED]
    if "authorization" not in request.headers:  # as the hosted gateway does for a secret key
        headers.append(("authorization", f"Bearer {request.headers.get('apikey', '')}"))
    path = request.scope["raw_path"].removeprefix(b"/rest/v1")
    url = client.base_url.copy_with(
        raw_path=path + (b"?" + query if (query := request.scope["query_string"]) else b"")
    )
    try:
        upstream = await client.request(request.method, url, headers=headers, content=await request.body())
    except httpx.TransportError:
        return JSONResponse({"message": "An invalid response was received from the upstream server"}, 502)
    answer = Response(upstream.content, upstream.status_code)
    kept = [
        (name, value) for name, value in upstream.headers.raw if name.lower().decode() not in NOT_FORWARDED
    ]
    answer.raw_headers = [*kept, (b"content-length", str(len(upstream.content)).encode())]
    return answer


def main() -> None:
    port, postgrest_url, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    secret = os.environ["SUPABASE_JWT_SECRET"]
    gateway = create_gateway(postgrest_url, secret, create_storage(folder, secret))
    uvicorn.run(gateway, host=HOST, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
