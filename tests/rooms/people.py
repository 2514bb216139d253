"""People in a room, over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.callers import Headers


@dataclass
class Person:
    """A participant with one open page."""

    api: httpx.Client
    address: str
    joined: dict[str, Any]
    tab: str
    anonymous: str | None

    @property
    def id(self) -> str:
        """The participant's id."""
        return str(self.joined["participant"]["id"])

    @property
    def headers(self) -> Headers:
        """What the page sends."""
        return {"X-Participant-Token": self.joined["participantToken"]}

    def beat(self) -> httpx.Response:
        """Send a heartbeat."""
        return self.api.post(f"{self.address}/heartbeat", json={"tab": self.tab}, headers=self.headers)

    def leave(self, **body: str) -> httpx.Response:
        """Leave: with `tab` the page, else the person."""
        return self.api.post(f"{self.address}/leave", json=body, headers=self.headers)

    def join(self, headers: Headers | None = None, **more: str) -> httpx.Response:
        """Come back."""
        body = {"accessMethod": "direct", "tab": self.tab, **more}
        if self.anonymous is not None:
            body["anonymousId"] = self.anonymous
        return self.api.post(f"{self.address}/join", json=body, headers=self.headers if headers is None else headers)


def enter(
    api: httpx.Client,
    address: str,
    *,
    headers: Headers | None = None,
    invite: str | None = None,
    anonymous: str | None = "",
    **more: str,
) -> Person:
    """Join a session: by an invite, or directly by these headers. `anonymous` "" is a new person without an account."""
    anonymous = str(uuid4()) if anonymous == "" else anonymous
    tab = str(uuid4())
    body = {"accessMethod": "invite" if invite else "direct", "tab": tab, **more}
    body |= {"invite": invite} if invite else {}
    body |= {"anonymousId": anonymous} if anonymous else {}
    answer = api.post(f"{address}/join", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return Person(api, address, answer.json(), tab, anonymous)


def an_invite(api: httpx.Client, address: str, owner: Headers, **fields: Any) -> str:
    """Create an invite; return its token."""
    answer = api.post(f"{address}/invites", json=fields, headers=owner)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])
