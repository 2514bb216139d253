"""The routes of the Storage stand-in that sign URLs, and those behind the signed URLs."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from infra.local.limits import check_limits
from infra.local.objects import ObjectStore
from infra.local.signed_urls import DOWNLOAD, UPLOAD, SignedUrls
from infra.local.storage_access import Access, read_json
from infra.local.storage_errors import RefusalError, duplicate, invalid, no_bucket, no_object, no_right
from infra.local.uploads import read_upload


class SignedRoutes:
    """One method per route."""

    def __init__(self, store: ObjectStore, access: Access, signed: SignedUrls) -> None:
        self._store = store
        self._access = access
        self._signed = signed

    def sign_upload(self, request: Request, _: bytes) -> Response:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        if not self._access.may(request):
            raise no_right()
        if self._store.bucket(bucket) is None:
            raise RefusalError(404, "InvalidRequest", "The related resource does not exist")
        upsert = request.headers.get("x-upsert") == "true"
        if not upsert and self._store.object(bucket, name) is not None:
            raise duplicate()
        return JSONResponse({"url": self._signed.for_upload(f"{bucket}/{name}", upsert=upsert)})

    def upload_signed(self, request: Request, body: bytes) -> Response:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        replace = self._signed.verify(request.query_params.get("token"), f"{bucket}/{name}", UPLOAD)
        found = self._store.bucket(bucket)
        if found is None:
            raise no_bucket()
        upload = read_upload(request, body)
        check_limits(found, size=len(upload.body), content_type=upload.content_type)
        if self._store.put(bucket, name, upload, replace=replace) is None:
            raise duplicate()
        return JSONResponse({"Key": f"{bucket}/{name}"})

    def sign_download(self, request: Request, body: bytes) -> Response:
        record = self._access.find(request)
        seconds = read_json(body).get("expiresIn")
        if not str(seconds).isdecimal() or int(str(seconds)) < 1:
            raise invalid("body/expiresIn must be >= 1")
        name = f"{record['bucket_id']}/{record['name']}"
        return JSONResponse({"signedURL": self._signed.for_download(name, int(str(seconds)))})

    def download_signed(self, request: Request, _: bytes) -> Response:
        bucket, name = request.path_params["bucket"], request.path_params["name"]
        self._signed.verify(request.query_params.get("token"), f"{bucket}/{name}", DOWNLOAD)
        record = self._store.object(bucket, name)
        if record is None:
            raise no_object()
        answer = self._access.send(request, record)
        filename = quote(request.query_params.get("download", ""))
        if filename:
            answer.headers["content-disposition"] = (
                f"attachment; filename={filename}; filename*=UTF-8''{filename};"
            )
        elif "download" in request.query_params:
            answer.headers["content-disposition"] = "attachment;"
        return answer
