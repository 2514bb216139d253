"""What a file is said to be, where its bytes are uploaded, and where they are."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from api.http.files.names import LONGEST, checked_name
from api.http.schemas import Answer, Question, Time


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
    """A file to attach. Its size and type must be those of the uploaded bytes."""

    name: Name = Field(description="The name for people; no path.")
    size: Size = Field(description="In bytes.")
    content_type: ContentType = Field(description="Without parameters, such as `image/png`.")


class Upload(Answer):
    """Where to `PUT` the bytes, once, with the registered content type."""

    url: str
    method: Literal["PUT"] = "PUT"
    expires_at: Time


class Download(Answer):
    """The URL of a file's bytes."""

    url: str
    expires_in: int = Field(description="In seconds.")
