"""A stand-in for Supabase Storage: the routes that Lull uses, on a folder, with the real server's answers.

An error is HTTP 400 with the code that is meant inside, as the real server sends it. Only a token of role
service_role may do anything; for anybody else nothing exists, as with row security and no policy.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.local import multipart
from infra.local.listing import list_folder
from infra.local.objects import ObjectStore, Record, Upload

MAX_REMOVED = 1000
Answer = Callable[[Request, bytes], Response]


class RefusalError(Exception):
    """An error as Storage spells it."""

    def __init__(self, status: int, error: str, message: str) -> None:
        self.answer = JSONResponse({"statusCode": str(status), "error": error, "message": message}, 400)


def no_object() -> RefusalError:
    return RefusalError(404, "not_found", "Object not found")


def no_bucket() -> RefusalError:
    return RefusalError(404, "Bucket not found", "Bucket not found")


def no_right() -> RefusalError:
    return RefusalError(403, "Unauthorized", "new row violates row-level security policy")


def create_storage(folder: Path, jwt_secret: str) -> Starlette:
    """Return the Storage API (to be mounted at `/storage/v1`) on a folder."""
    routes = StorageRoutes(ObjectStore(folder), jwt_secret)
    return Starlette(
        routes=[
            _route("/bucket", routes.list_buckets, "GET"),
            _route("/bucket", routes.create_bucket, "POST"),
            _route("/bucket/{bucket}", routes.get_bucket, "GET"),
            _route("/object/list/{bucket}", routes.list_objects, "POST"),
            _route("/object/info/{bucket}/{name:path}", routes.info, "GET"),
            _route("/object/authenticated/{bucket}/{name:path}", routes.download, "GET"),
            _route("/object/{bucket}", routes.remove, "DELETE"),
            _route("/object/{bucket}/{name:path}", routes.download, "GET"),
            _route("/object/{bucket}/{name:path}", routes.upload, "POST"),
            _route("/object/{bucket}/{name:path}", routes.replace, "PUT"),
        ]
    )


def _route(path: str, answer: Answer, method: str) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await run_in_threadpool(answer, request, await request.body())
        except RefusalError as refusal:
            return refusal.answer

    return Route(path, endpoint, methods=[method])


class StorageRoutes:
    """One method per route."""

    def __init__(self, store: ObjectStore, jwt_secret: str) -> None:
        self._store = store
        self._jwt_secret = jwt_secret

    def list_buckets(self, request: Request, _: bytes) -> Response:
        return JSONResponse(self._store.buckets() if self._may(request) else [])

    def get_bucket(self, request: Request, _: bytes) -> Response:
        bucket = self._store.bucket(request.path_params["bucket"]) if self._may(request) else None
        if bucket is None:
            raise no_bucket()
        return JSONResponse(bucket)

    def create_bucket(self, request: Request, body: bytes) -> Response:
        options = _json(body)
        name = options.get("name") or options.get("id")
        if not isinstance(name, str) or not 0 < len(name) <= 100 or "/" in name:
            raise RefusalError(400, "Invalid Input", "Bucket name invalid")
        if not self._may(request):
            raise no_right()
        if not self._store.create_bucket(name, options):
            raise RefusalError(409, "Duplicate", "The resource already exists")
        return JSONResponse({"name": name})

    def list_objects(self, request: Request, body: bytes) -> Response:
        found = self._store.objects(request.path_params["bucket"]) if self._may(request) else []
        return JSONResponse(list_folder(found, _json(body)))

    def info(self, request: Request, _: bytes) -> Response:
        record = self._find(request)
        facts = record["metadata"]
        same = {key: record[key] for key in ("id", "name", "version", "bucket_id", "created_at")}
        known = {
            "size": facts["size"],
            "content_type": facts["mimetype"],
            "cache_control": facts["cacheControl"],
        }
        more = {
            "etag": facts["eTag"],
            "metadata": record["user_metadata"],
            "last_modified": record["updated_at"],
        }
        return JSONResponse({**same, **known, **more})

    def download(self, request: Request, _: bytes) -> Response:
        record = self._find(request)
        facts = record["metadata"]
        headers = {
            "cache-control": facts["cacheControl"],
            "etag": facts["eTag"],
            "content-type": facts["mimetype"],
        }
        try:
            return Response(self._store.body(record["bucket_id"], record["name"]), headers=headers)
        except FileNotFoundError:  # removed since the line above
            raise no_object() from None

    def upload(self, request: Request, body: bytes) -> Response:
        return self._put(request, body, replace=request.headers.get("x-upsert") == "true")

    def replace(self, request: Request, body: bytes) -> Response:
        return self._put(request, body, replace=True)

    def remove(self, request: Request, body: bytes) -> Response:
        names = _json(body).get("prefixes")
        if not isinstance(names, list):
            raise RefusalError(400, "Error", "body must have required property 'prefixes'")
        if not names:
            raise RefusalError(400, "Error", "body/prefixes must NOT have fewer than 1 items")
        if len(names) > MAX_REMOVED:
            limit = f"Bulk object requests are limited to {MAX_REMOVED} objects per request."
            raise RefusalError(400, "InvalidRequest", limit)
        allowed = self._may(request)
        gone = [self._store.remove(request.path_params["bucket"], str(name)) for name in names if allowed]
        return JSONResponse([record for record in gone if record is not None])

    def _put(self, request: Request, body: bytes, *, replace: bool) -> Response:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        if self._store.bucket(bucket) is None:
            raise no_bucket()
        if not self._may(request):
            raise no_right()
        record = self._store.put(bucket, name, _read_upload(request, body), replace=replace)
        if record is None:
            raise RefusalError(409, "Duplicate", "The resource already exists")
        return JSONResponse({"Key": f"{bucket}/{name}", "Id": record["id"]})

    def _find(self, request: Request) -> Record:
        bucket = request.path_params["bucket"]
        if not self._may(request):
            raise no_object()
        if self._store.bucket(bucket) is None:
            raise no_bucket()
        record = self._store.object(bucket, request.path_params["name"])
        if record is None:
            raise no_object()
        return record

    def _may(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given if scheme.lower() == "bearer" else request.headers.get("apikey", "")
        try:
            claims = jwt.decode(token, self._jwt_secret, algorithms=["HS256"], options={"verify_aud": False})
        except jwt.InvalidTokenError as error:
            raise RefusalError(403, "Unauthorized", str(error)) from None
        return claims.get("role") == "service_role"


def _read_upload(request: Request, body: bytes) -> Upload:
    content_type = request.headers.get("content-type", "application/octet-stream")
    if not content_type.startswith("multipart/form-data"):
        return Upload(body, content_type, request.headers.get("cache-control", "no-cache"))
    parts = multipart.parse(content_type, body)
    fields = {part.name: part.body.decode(errors="replace") for part in parts if part.filename is None}
    files = [part for part in parts if part.filename is not None]
    if not files:
        raise RefusalError(400, "InvalidRequest", "No content provided")
    cache = f"max-age={fields['cacheControl']}" if fields.get("cacheControl") else "no-cache"
    metadata = json.loads(fields["metadata"]) if fields.get("metadata") else None
    return Upload(files[0].body, files[0].content_type, cache, metadata)


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise RefusalError(400, "Error", "Body is not valid JSON") from None
    return value if isinstance(value, dict) else {}
