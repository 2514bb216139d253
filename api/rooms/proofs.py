"""What people without an account prove themselves by: an invite's token, and an anonymous id that their page knows."""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from api.errors import Problem, not_configured
from api.settings import Settings

_INVITE = b"lull invite token"
_ANONYMOUS = b"lull anonymous participant"
_HALF = 8  # bytes of each of an invite's two codes
_FORM = r"[A-Za-z0-9_-]{43}"  # 32 bytes in base64


def invite_token(settings: Settings, session: UUID, invite: UUID) -> str:
    """The token of an invite: its id, 64 bits of HMAC of the id, 64 bits of HMAC of session and id.

    The first code tells a real invite of another session from a forged one, without reading an invite.
    """
    return urlsafe_b64encode(invite.bytes + _codes(_key(settings, _INVITE), session, invite)).decode().rstrip("=")


def invite_of(settings: Settings, session: UUID, token: str) -> UUID:
    """The id of the invite with this token. Raises 422 for one that was not made here, 404 for another session's."""
    content = urlsafe_b64decode(token + "=") if re.fullmatch(_FORM, token) else bytes(16)
    invite, given = UUID(bytes=content[:16]), content[16:]
    expected = [_codes(key, session, invite) for key in _keys(settings, _INVITE)]
    if any(hmac.compare_digest(given, codes) for codes in expected):
        return invite
    if given and any(hmac.compare_digest(given[:_HALF], codes[:_HALF]) for codes in expected):
        raise Problem(404, "invite-unknown", "This session has no such invite. Nothing was changed.")
    raise Problem(422, "invite-malformed", "This is no invitation: a part of the link is missing or was changed.")


def anonymous_hashes(settings: Settings, session: UUID, anonymous_id: str | None) -> list[str]:
    """The keyed hashes of an anonymous id in one session, in hexadecimal: by today's secret, then by the one before."""
    if anonymous_id is None:
        return []
    said = session.bytes + anonymous_id.encode()
    return [hmac.digest(key, said, "sha256").hex() for key in _keys(settings, _ANONYMOUS)]


def _codes(key: bytes, session: UUID, invite: UUID) -> bytes:
    codes = (hmac.digest(key, said, "sha256") for said in (invite.bytes, session.bytes + invite.bytes))
    return b"".join(code[:_HALF] for code in codes)


def _key(settings: Settings, purpose: bytes) -> bytes:
    return _keys(settings, purpose)[0]


def _keys(settings: Settings, purpose: bytes) -> list[bytes]:
    keys = settings.derived_keys(purpose)
    if not keys:
        raise not_configured("SESSION_TOKEN_SECRET is not set, nor SUPABASE_SECRET_KEY.")
    return keys
