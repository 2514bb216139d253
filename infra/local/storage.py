"""A stand-in for Supabase Storage: the routes that Lull uses, on a folder, with the real server's answers.

An error is HTTP 400 with the actual code in the body, as the real server sends it. Only a token of role
service_role has access; for other callers nothing exists, as with row security and no policy.
"""

from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.local.limits import check_limits
from infra.local.listing import list_folder
from infra.local.objects import ObjectStore
from infra.local.resumable import ResumableRoutes
from infra.local.signed_routes import SignedRoutes
from infra.local.signed_urls import SignedUrls
from infra.local.storage_access import Access, read_json
from infra.local.storage_errors import RefusalError, duplicate, invalid, no_bucket, no_object, no_right
from infra.local.uploads import read_upload

MAX_REMOVED = 1000
Answer = Callable[[Request, bytes], Response]


def create_storage(folder: Path, jwt_secret: str) -> Starlette:
    """Return the Storage API (to be mounted at `/storage/v1`) on a folder."""
    store = ObjectStore(folder)
    access = Access(store, jwt_secret)
    urls = SignedUrls(jwt_secret)
    routes, signed = StorageRoutes(store, access), SignedRoutes(store, access, urls)
    return Starlette(
        routes=[
            _route("/bucket", routes.list_buckets, "GET"),
            _route("/bucket", routes.create_bucket, "POST"),
            _route("/bucket/{bucket}", routes.get_bucket, "GET"),
            _route("/bucket/{bucket}", routes.update_bucket, "PUT"),
            *_resumable(ResumableRoutes(store, access, urls)),
            _route("/object/move", routes.move, "POST"),
            _route("/object/list/{bucket}", routes.list_objects, "POST"),
            _route("/object/info/{bucket}/{name:path}", routes.info, "GET"),
            _route("/object/upload/sign/{bucket}/{name:path}", signed.sign_upload, "POST"),
            _route("/object/upload/sign/{bucket}/{name:path}", signed.upload_signed, "PUT"),
            _route("/object/sign/{bucket}/{name:path}", signed.sign_download, "POST"),
            _route("/object/sign/{bucket}/{name:path}", signed.download_signed, "GET"),
            _route("/object/authenticated/{bucket}/{name:path}", routes.download, "GET"),
            _route("/object/{bucket}", routes.remove, "DELETE"),
            _route("/object/{bucket}/{name:path}", routes.download, "GET"),
            _route("/object/{bucket}/{name:path}", routes.upload, "POST"),
            _route("/object/{bucket}/{name:path}", routes.replace, "PUT"),
        ]
    )


def _resumable(routes: ResumableRoutes) -> list[Route]:
    return [
        _route(f"/upload/resumable{path}", answer, method)
        for signed in ("", "/sign")
        for path, answer, method in (
            (signed, routes.create, "POST"),
            (signed, routes.options, "OPTIONS"),
            (signed + "/{key:str}", routes.append, "PATCH"),
            (signed + "/{key:str}", routes.show, "HEAD"),
        )
    ]


def _route(path: str, answer: Answer, method: str) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await run_in_threadpool(answer, request, await request.body())
        except RefusalError as refusal:
            return refusal.answer

    return Route(path, endpoint, methods=[method])


class StorageRoutes:
    """One method per route."""

    def __init__(self, store: ObjectStore, access: Access) -> None:
        self._store = store
        self._access = access

    def list_buckets(self, request: Request, _: bytes) -> Response:
        return JSONResponse(self._store.buckets() if self._access.may(request) else [])

    def get_bucket(self, request: Request, _: bytes) -> Response:
        bucket = self._store.bucket(request.path_params["bucket"]) if self._access.may(request) else None
        if bucket is None:
            raise no_bucket()
        return JSONResponse(bucket)

    def create_bucket(self, request: Request, body: bytes) -> Response:
        options = read_json(body)
        name = options.get("name") or options.get("id")
        if not isinstance(name, str) or not 0 < len(name) <= 100 or "/" in name:
            raise RefusalError(400, "Invalid Input", "Bucket name invalid")
        if not self._access.may(request):
            raise no_right()
        if not self._store.create_bucket(name, options):
            raise duplicate()
        return JSONResponse({"name": name})

    def update_bucket(self, request: Request, body: bytes) -> Response:
        if not self._access.may(request) or not self._store.update_bucket(
            request.path_params["bucket"], read_json(body)
        ):
            raise no_bucket()
        return JSONResponse({"message": "Successfully updated"})

    def list_objects(self, request: Request, body: bytes) -> Response:
        found = self._store.objects(request.path_params["bucket"]) if self._access.may(request) else []
        return JSONResponse(list_folder(found, read_json(body)))

    def info(self, request: Request, _: bytes) -> Response:
        record = self._access.find(request)
        facts = record["metadata"]
        same = {key: record[key] for key in ("id", "name", "version", "bucket_id", "created_at")}
        known = {
            "size": facts["size"],
            "content_type": facts["mimetype"],
            "cache_control": facts["cacheControl"],
        }
        more = {
            "etag": facts["eTag"],
            "metadata": record["user_metadata"] or {},
            "last_modified": record["updated_at"],
        }
        return JSONResponse({**same, **known, **more})

    def download(self, request: Request, _: bytes) -> Response:
        return self._access.send(request, self._access.find(request))

    def upload(self, request: Request, body: bytes) -> Response:
        return self._put(request, body, replace=request.headers.get("x-upsert") == "true")

    def replace(self, request: Request, body: bytes) -> Response:
        return self._put(request, body, replace=True)

    def move(self, request: Request, body: bytes) -> Response:
        asked = read_json(body)
        bucket, source, target = (str(asked.get(key) or "") for key in ("bucketId", "sourceKey", "destinationKey"))
        if not self._access.may(request) or self._store.object(bucket, source) is None:
            raise no_object()
        moved = self._store.move(bucket, source, target)
        if moved is None:
            raise duplicate()
        return JSONResponse({"message": "Successfully moved", "Id": moved["id"], "Key": target})

    def remove(self, request: Request, body: bytes) -> Response:
        names = read_json(body).get("prefixes")
        if not isinstance(names, list):
            raise invalid("body must have required property 'prefixes'")
        if not names:
            raise invalid("body/prefixes must NOT have fewer than 1 items")
        if len(names) > MAX_REMOVED:
            limit = f"Bulk object requests are limited to {MAX_REMOVED} objects per request."
            raise RefusalError(400, "InvalidRequest", limit)
        allowed = self._access.may(request)
        gone = [self._store.remove(request.path_params["bucket"], str(name)) for name in names if allowed]
        return JSONResponse([record for record in gone if record is not None])

    def _put(self, request: Request, body: bytes, *, replace: bool) -> Response:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        found = self._store.bucket(bucket)
        if found is None:
            raise no_bucket()
        if not self._access.may(request):
            raise no_right()
        upload = read_upload(request, body)
        check_limits(found, size=len(upload.body), content_type=upload.content_type)
        record = self._store.put(bucket, name, upload, replace=replace)
        if record is None:
            raise duplicate()
        return JSONResponse({"Key": f"{bucket}/{name}", "Id": record["id"]})
