"""Tokens of participants: the participant's id and a code of session and participant, checked without the database."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from fastapi import Request

from api.auth.secrets import headers_named
from api.errors import not_configured
from api.settings import Settings

HEADER = b"x-participant-token"
_PURPOSE = b"lull participant token"
_ID_BYTES, _CODE_BYTES = 16, 32
_LENGTH = 64  # of 48 bytes in base64


def participant_token(settings: Settings, session: UUID, participant: UUID) -> str:
    """The token of a participant of a session. Raises 503 without a secret to make it with."""
    key = settings.derived_key(_PURPOSE)
    if key is None:
        raise not_configured("SESSION_TOKEN_SECRET is not set, nor SUPABASE_SECRET_KEY.")
    return urlsafe_b64encode(participant.bytes + _code(key, session, participant)).decode()


def participant_of(settings: Settings, request: Request) -> UUID | None:
    """The participant whose token came with a request for the session in its path; None without a token of its own.

    A token that was made before a rotation of the secret counts while SESSION_TOKEN_SECRET_PREVIOUS is set. What
    became of the participant is not known here.
    """
    tokens = headers_named(request, HEADER)
    if len(tokens) != 1 or len(tokens[0].strip()) != _LENGTH:
        return None
    try:
        session = UUID(request.path_params["id"])
        content = urlsafe_b64decode(tokens[0].strip())
        participant = UUID(bytes=content[:_ID_BYTES])
    except ValueError:
        return None
    given = content[_ID_BYTES:]
    matches = [hmac.compare_digest(given, _code(key, session, participant)) for key in settings.derived_keys(_PURPOSE)]
    return participant if any(matches) else None


def _code(key: bytes, session: UUID, participant: UUID) -> bytes:
    return hmac.digest(key, session.bytes + participant.bytes, "sha256")[:_CODE_BYTES]
