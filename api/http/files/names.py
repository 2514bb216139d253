"""Names of files: the name for people, and the name that is safe in a path."""

import re
import unicodedata

LONGEST = 255
_LONGEST_IN_PATH = 100

# Invisible characters that change the reading direction: "gnp.exe" can look like "exe.png".
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_BREAKS = "\u2028\u2029"


def checked_name(name: str) -> str:
    """The name as it was given. Raises ValueError for a path, and for an invisible or misleading name."""
    if re.search(rf"[\0-\x1f\x7f-\x9f{_BIDI}{_BREAKS}]", name):
        raise ValueError("must not contain control characters, line breaks or marks of direction")
    if re.search(r"[/\\]", name):
        raise ValueError("must be a name without a path: no / and no \\")
    if not name.strip(". \t") or not any(unicodedata.category(character)[0] in "LNPS" for character in name):
        raise ValueError("must contain more than dots and blanks")
    return name


def upload_path(path: str) -> str:
    """Where the bytes of a file are uploaded, until completing it moves them to its path.

    The SQL functions that register a file make the same path.
    """
    return f"uploads/{path}"


def safe_name(name: str) -> str:
    """The name in ASCII letters, digits and `._-`, not empty and without a leading dot; the extension stays."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)
    stem, dot, extension = re.sub(r"\.{2,}", ".", safe).strip("._").rpartition(".")
    if not dot:
        stem, extension = extension, ""
    stem = stem.strip("._-") or "file"
    ending = f".{extension[:20]}" if extension else ""
    return stem[: _LONGEST_IN_PATH - len(ending)] + ending
