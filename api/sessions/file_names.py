"""Names of files: the one that people gave, and the one that is safe in a path."""

import re
import unicodedata
from uuid import UUID

LONGEST = 255
_LONGEST_IN_PATH = 100

# Invisible, and they change the order of what is read: "gnp.exe" can look like "exe.png".
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_BREAKS = "\u2028\u2029"


def checked_name(name: str) -> str:
    """A name for people, as it was given; ValueError for one that is a path, invisible or misleading."""
    if re.search(rf"[\0-\x1f\x7f-\x9f{_BIDI}{_BREAKS}]", name):
        raise ValueError("must not contain control characters, line breaks or marks of direction")
    if re.search(r"[/\\]", name):
        raise ValueError("must be a name without a path: no / and no \\")
    if not name.strip(". \t") or not any(unicodedata.category(character)[0] in "LNPS" for character in name):
        raise ValueError("must contain more than dots and blanks")
    return name


def storage_path(session: UUID, file: UUID, name: str) -> str:
    """Where a file is kept: its id makes the path unique and not to be guessed, its name readable."""
    return f"sessions/{session}/{file}/{safe_name(name)}"


def safe_name(name: str) -> str:
    """The name in letters, digits and ._- of ASCII, never hidden, never empty, with its extension kept."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)
    stem, dot, extension = re.sub(r"\.{2,}", ".", safe).strip("._").rpartition(".")
    if not dot:
        stem, extension = extension, ""
    stem = stem.strip("._-") or "file"
    ending = f".{extension[:20]}" if extension else ""
    return stem[: _LONGEST_IN_PATH - len(ending)] + ending
