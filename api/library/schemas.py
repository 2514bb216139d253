"""Requests and answers about items of the library."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Header, Path, Query
from pydantic import AfterValidator, Field, StringConstraints

from api.http.files.schemas import Download, NewFile, Upload
from api.http.schemas import Answer, Id, NotNull, Number, PlainDigits, Question, Time

LARGEST_DOCUMENT = 256 * 1024  # bytes: as it is sent, and as Postgres writes JSON
LARGEST_IMPORT = 4 * 1024 * 1024
EXPORT_BYTES = 4_000_000  # an exported page can be imported
MOST_LINES = 500

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
NAMESPACE_PATTERN = rf"^((guild|app):[A-Za-z0-9._-]{{1,100}}|user:{_UUID})$"
KEY_PATTERN = r"^[^\x00-\x1f\x7f/\\]{1,200}$"


def _no_dots(key: str) -> str:
    """Refuse what clients take out of an address."""
    if key in {".", ".."}:
        raise ValueError("must be more than dots")
    return key


Key = Annotated[str, StringConstraints(pattern=KEY_PATTERN), AfterValidator(_no_dots)]
Namespace = Annotated[str, StringConstraints(pattern=NAMESPACE_PATTERN)]
NamespaceOfPath = Annotated[
    str,
    Path(alias="namespace", pattern=NAMESPACE_PATTERN, description="`guild:<id>`, `app:<name>` or `user:<uuid>`."),
]
KeyOfPath = Annotated[str, Path(alias="key", pattern=KEY_PATTERN), AfterValidator(_no_dots)]
VersionNumber = Annotated[int, Field(ge=1, le=999_999_999), PlainDigits]
VersionOfPath = Annotated[int, Path(alias="version", ge=1, le=999_999_999), PlainDigits]
FileOfPath = Annotated[Id, Path(alias="file")]
IfMatch = Annotated[
    str | None,
    NotNull(),
    Header(
        alias="If-Match",
        pattern=r'^"[1-9][0-9]{0,8}"$',
        description="Only if the item still has this version, as in `ETag`; otherwise 412.",
    ),
]
IfNoneMatch = Annotated[
    Literal["*"] | None,
    NotNull(),
    Header(alias="If-None-Match", description="`*`: only if there is no such item; otherwise 412."),
]
Existing = Annotated[
    Literal["keep", "replace"],
    Query(description="What becomes of an item that is there and differs: it stays, or gets a new version."),
]


class ItemFile(Answer):
    """The file that a version is."""

    id: UUID
    name: str
    content_type: str
    sha256: str = Field(description="In hexadecimal, as its owner said: compare it with what you download.")
    state: Literal["pending", "uploaded"] = Field(description="`pending`: announced, its bytes are not there yet.")


class ItemSummary(Answer):
    """A version of an item, without its document."""

    namespace: str
    key: str
    version: int
    size: int = Field(description="In bytes; of a document as Postgres writes JSON.")
    written_at: Time
    restored_from: int | None = Field(description="The old version whose content this one brought back.")
    deleted_at: Time | None
    file: ItemFile | None = Field(description="Null for a document.")


class Item(ItemSummary):
    """A version of an item: a document, or a file."""

    document: dict[str, Any] | None = Field(description="Null for a file.")


class OneItem(Answer):
    """An item."""

    item: Item


class OneSummary(Answer):
    """An item, without its document."""

    item: ItemSummary


class Written(OneItem):
    """The answer of `lull_put_item`."""

    created: bool
    changed: bool


class ItemQuery(Question):
    """Which items to list."""

    deleted: bool = Field(default=False, description="Those that were deleted and can be undeleted.")
    limit: Annotated[int, Field(ge=1, le=MOST_LINES), PlainDigits] = 100
    cursor: Annotated[Key | None, NotNull()] = Field(default=None, description="`nextCursor` of the page before.")


class ItemPage(Answer):
    """Items by key."""

    items: list[ItemSummary]
    next_cursor: str | None


class ListedItems(Answer):
    """The answer of `lull_list_items`."""

    items: list[ItemSummary]
    next: str | None


class ExportedItems(Answer):
    """The answer of `lull_export_items`."""

    items: list[Item]
    next: str | None


class VersionList(Answer):
    """The versions of an item that are kept, newest first."""

    versions: list[ItemSummary]


class NewItemFile(NewFile):
    """A file to become an item's next version."""

    sha256: Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9A-Fa-f]{64}$")] = Field(
        description="Of the bytes, in hexadecimal: readers compare it with what they download."
    )


class RegisteredItem(OneSummary):
    """The answer of `lull_register_item_file`."""

    registered: bool


class RegisteredItemFile(OneSummary):
    """The item with its announced file, and where its bytes go."""

    upload: Upload | None = Field(description="Null when the current version is this file already.")


class KnownItemFile(OneSummary):
    """The answer of `lull_get_item_file`: the item, and its file's bucket and path in Storage."""

    bucket: str
    path: str


class ItemWithDownload(OneSummary):
    """An item, and the URL of its file's bytes."""

    download: Download | None = Field(description="Null when Storage does not have the bytes.")


class LineFile(Question):
    """A file in an export: its bytes are not."""

    name: str
    content_type: str
    size: int
    sha256: str


class Line(Question):
    """A line of an export: `document` or `file`."""

    key: Key
    version: int | None = None
    written_at: str | None = None
    document: dict[str, Any] | None = None
    file: LineFile | None = None


class LineAnswer(Answer):
    """What became of a line of an import."""

    line: int
    key: str | None
    outcome: Literal[
        "created", "written", "unchanged", "kept", "invalid", "too-large", "too-many-items", "bytes-missing"
    ]
    version: int | None = None
    detail: str | None = None


class Imported(Answer):
    """The answer of `lull_import_items`."""

    lines: list[LineAnswer]


class UsedItem(Question):
    """A version of an item that a session used."""

    namespace: Namespace
    key: Key
    version: Annotated[int, Field(ge=1, le=999_999_999), Number] | None = Field(
        default=None, description="Default: the current one."
    )


class SessionItem(Answer):
    """A version of an item that a session used, and when it was first noted."""

    namespace: str
    key: str
    version: int
    used_at: Time


class OneSessionItem(Answer):
    """The answer of `lull_use_item`."""

    item: SessionItem
    noted: bool = Field(description="False when the session had noted it before.")


class SessionItemList(Answer):
    """What a session used, in the order of use."""

    items: list[SessionItem]
