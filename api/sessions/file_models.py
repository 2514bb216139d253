"""What callers send about files, and what they get."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from api.sessions.file_names import LONGEST, checked_name
from api.wire import Answer, Question, Time


def _whole(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST), AfterValidator(checked_name)]
ContentType = Annotated[
    str, StringConstraints(max_length=100, to_lower=True, pattern=r"^[A-Za-z0-9.+_-]+/[A-Za-z0-9.+_-]+$")
]
Size = Annotated[int, Field(ge=0, le=2**53 - 1), BeforeValidator(_whole)]


class NewFile(Question):
    """A file to attach: its size and type must be those of the bytes that are uploaded then."""

    name: Name = Field(description="As people know it; no path.")
    size: Size = Field(description="In bytes.")
    content_type: ContentType = Field(description="Without parameters, such as `image/png`.")


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


class Upload(Answer):
    """Where the bytes go: `PUT` them there, once, with the content type that was registered."""

    url: str
    method: Literal["PUT"] = "PUT"
    expires_at: Time


class RegisteredFile(OneFile):
    """A file without bytes yet."""

    upload: Upload


class Download(Answer):
    """Where the bytes are."""

    url: str
    expires_in: int = Field(description="In seconds.")


class FileWithDownload(OneFile):
    """A file, and where its bytes are."""

    download: Download | None = Field(description="Null while there are no bytes.")


class FileList(Answer):
    """Files, oldest first."""

    files: list[File]
