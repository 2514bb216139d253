"""Objects of the Storage stand-in on disk.

A bucket is a folder and an object is two files. Files are named by the hash of the object's name, so that no name
can lead outside of the folder. An object exists once its `.json` file is linked, in one step, after the bytes.
"""

import contextlib
import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.local.limits import parse_size

Record = dict[str, Any]
LIMITS = ("file_size_limit", "allowed_mime_types")


@dataclass(frozen=True)
class Upload:
    """The bytes of one upload and their metadata."""

    body: bytes
    content_type: str
    cache_control: str
    metadata: Any = None


class ObjectStore:
    """Buckets and objects in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def buckets(self) -> list[Record]:
        """Return all buckets, by name."""
        found = [json.loads(path.read_text()) for path in self._folder.glob("*/bucket.json")]
        return sorted(found, key=lambda bucket: str(bucket["name"]))

    def bucket(self, name: str) -> Record | None:
        """Return a bucket, or None."""
        return _read(self._bucket_folder(name) / "bucket.json")

    def create_bucket(self, name: str, options: Record) -> bool:
        """Create a bucket; answer False when it exists."""
        folder = self._bucket_folder(name)
        folder.mkdir(exist_ok=True)
        now = _now()
        limits = _limits(options)
        who = {"id": name, "name": name, "owner": "", "public": bool(options.get("public"))}
        return _link_new(folder / "bucket.json", {**who, **limits, "created_at": now, "updated_at": now})

    def update_bucket(self, name: str, options: Record) -> bool:
        """Change what the options name of a bucket; answer False when there is none."""
        before = self.bucket(name)
        if before is None:
            return False
        known = {key: options[key] for key in ("public", *LIMITS) if key in options}
        record = {**before, **known, **_limits({**before, **known}), "updated_at": _now()}
        _write(self._bucket_folder(name) / "bucket.json", json.dumps(record).encode())
        return True

    def objects(self, bucket: str) -> list[Record]:
        """Return all objects of a bucket, in no order."""
        records = (_read(path) for path in self._bucket_folder(bucket).glob("*/*.json"))
        return [record for record in records if record is not None]

    def object(self, bucket: str, name: str) -> Record | None:
        """Return the metadata of an object, or None."""
        return _read(self._object_file(bucket, name).with_suffix(".json"))

    def body(self, bucket: str, name: str) -> bytes:
        """Return the bytes of an object that exists."""
        return self._object_file(bucket, name).with_suffix(".bytes").read_bytes()

    def put(self, bucket: str, name: str, upload: Upload, *, replace: bool) -> Record | None:
        """Store an object; answer None when it exists and must not be replaced."""
        path = self._object_file(bucket, name)
        before = self.object(bucket, name)
        if before is not None and not replace:
            return None
        path.parent.mkdir(exist_ok=True)
        now = _now()
        record: Record = {
            "name": name,
            "bucket_id": bucket,
            "owner": None,
            "owner_id": None,
            "id": before["id"] if before else str(uuid.uuid4()),
            "version": str(uuid.uuid4()),
            "created_at": before["created_at"] if before else now,
            "updated_at": now,
            "last_accessed_at": now,
            "metadata": _describe(upload, now),
            "user_metadata": upload.metadata,
        }
        _write(path.with_suffix(".bytes"), upload.body)
        if before is not None:
            _write(path.with_suffix(".json"), json.dumps(record).encode())
        elif not _link_new(path.with_suffix(".json"), record):
            return None
        return record

    def move(self, bucket: str, name: str, to: str) -> Record | None:
        """Move an object to a name that is free; answer None when that is taken. The object must exist."""
        record = self.object(bucket, name)
        if record is None or self.object(bucket, to) is not None:
            return None
        source, target = self._object_file(bucket, name), self._object_file(bucket, to)
        target.parent.mkdir(exist_ok=True)
        _write(target.with_suffix(".bytes"), source.with_suffix(".bytes").read_bytes())
        moved = {**record, "name": to, "updated_at": _now()}
        if not _link_new(target.with_suffix(".json"), moved):
            return None
        self.remove(bucket, name)
        return moved

    def remove(self, bucket: str, name: str) -> Record | None:
        """Remove an object and return its metadata; None when there was none."""
        path = self._object_file(bucket, name)
        record = _read(path.with_suffix(".json"))
        if record is not None:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.with_suffix(".bytes").unlink(missing_ok=True)
        return record

    def _bucket_folder(self, name: str) -> Path:
        return self._folder / _hash(name)

    def _object_file(self, bucket: str, name: str) -> Path:
        hashed = _hash(name)
        return self._bucket_folder(bucket) / hashed[:2] / hashed


def _limits(options: Record) -> Record:
    types = options.get("allowed_mime_types")
    return {"file_size_limit": parse_size(options.get("file_size_limit")), "allowed_mime_types": types or None}


def _describe(upload: Upload, now: str) -> Record:
    return {
        "eTag": f'"{hashlib.md5(upload.body, usedforsecurity=False).hexdigest()}"',
        "size": len(upload.body),
        "mimetype": upload.content_type,
        "cacheControl": upload.cache_control,
        "lastModified": now,
        "contentLength": len(upload.body),
        "httpStatusCode": 200,
    }


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(path: Path) -> Record | None:
    try:
        record: Record = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return record


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{uuid.uuid4()}")
    draft.write_bytes(content)
    draft.replace(path)


def _link_new(path: Path, record: Record) -> bool:
    draft = path.with_name(f"{path.name}.{uuid.uuid4()}")
    draft.write_text(json.dumps(record))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
            return True
        return False
    finally:
        draft.unlink()
