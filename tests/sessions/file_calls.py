"""What a front end does with files: register, put the bytes to Storage, say that they are there."""

from typing import Any

import httpx

PNG = b"\x89PNG\r\n\x1a\n" + bytes(1000)

Headers = dict[str, str]


def announce(size: int = len(PNG), **fields: Any) -> dict[str, Any]:
    """The body that registers a picture."""
    return {"name": "Ada.png", "size": size, "contentType": "image/png", **fields}


def register(api: httpx.Client, session: str, owner: Headers, **fields: Any) -> dict[str, Any]:
    """Register a file; return the answer."""
    answer = api.post(f"{session}/files", json=announce(**fields), headers=owner)
    assert answer.status_code == 201, answer.text
    registered: dict[str, Any] = answer.json()
    return registered


def put(registered: dict[str, Any], body: bytes = PNG, kind: str = "image/png") -> httpx.Response:
    """Upload as a browser does: by the signed URL alone."""
    url = registered["upload"]["url"]
    return httpx.put(url, content=body, headers={"content-type": kind}, trust_env=False)


def attach(api: httpx.Client, session: str, owner: Headers, **fields: Any) -> str:
    """Register, upload and complete a file; return its address."""
    registered = register(api, session, owner, **fields)
    assert put(registered).status_code == 200
    address = f"{session}/files/{registered['file']['id']}"
    completed = api.post(f"{address}/complete", headers=owner)
    assert completed.status_code == 200, completed.text
    return address


def download(api: httpx.Client, file: str, owner: Headers) -> bytes:
    """Get a file's bytes by its signed URL."""
    url = api.get(file, headers=owner).json()["download"]["url"]
    answer = httpx.get(url, trust_env=False)
    answer.raise_for_status()
    return answer.content
