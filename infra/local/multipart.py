"""The one form that Storage's clients send: some text fields and one file (RFC 7578)."""

import email
import email.policy
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One part of a form; `name` is empty for the file, as Storage's JavaScript client sends it."""

    name: str
    filename: str | None
    content_type: str
    body: bytes


def parse(content_type: str, body: bytes) -> list[Part]:
    """Split a multipart/form-data body into its parts; bytes are kept as they are."""
    boundary = _header("Content-Type", content_type).get_param("boundary")
    if not isinstance(boundary, str) or not boundary:
        return []
    # A leading line break makes the first delimiter look like the others.
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())[1:]
    return [_part(piece) for piece in pieces if not piece.startswith(b"--")]


def _part(piece: bytes) -> Part:
    head, _, body = piece.partition(b"\r\n\r\n")
    headers = email.message_from_bytes(head.lstrip(), policy=email.policy.compat32)
    name = headers.get_param("name", "", "content-disposition")
    filename = headers.get_filename()
    return Part(str(name or ""), filename, headers.get_content_type(), body)


def _header(name: str, value: str) -> email.message.Message:
    return email.message_from_string(f"{name}: {value}\n\n", policy=email.policy.compat32)
