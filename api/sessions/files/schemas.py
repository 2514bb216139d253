"""Requests and answers about files."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path
from pydantic import Field

from api.http.files.schemas import Download, Upload
from api.http.schemas import Answer, Id, Time

FileId = Annotated[Id, Path(alias="fileId")]


class File(Answer):
    """A file as the session's owner sees it."""

    id: UUID
    name: str
    size: int | None
    content_type: str
    state: Literal["pending", "uploaded"]
    created_at: Time
    uploaded_at: Time | None


class OneFile(Answer):
    """A file."""

    file: File


class KnownFile(OneFile):
    """The answer of `lull_get_file`: the file, and its bucket and path in Storage."""

    bucket: str
    path: str


class RegisteredFile(OneFile):
    """A file without bytes yet."""

    upload: Upload


class FileWithDownload(OneFile):
    """A file, and the URL of its bytes."""

    download: Download | None = Field(description="Null while there are no bytes.")


class FileList(Answer):
    """Files, oldest first."""

    files: list[File]
