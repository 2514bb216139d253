"""Parts of sentences in messages."""

from datetime import datetime


def shown(time: str | None) -> str:
    """A time for a sentence, without fractions of seconds."""
    moment = datetime.fromisoformat(time) if time else None
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else "never"


def some(things: list[str], most: int = 5) -> str:
    """The first `most` of these, and the number of the others."""
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(things[:most]) + more
