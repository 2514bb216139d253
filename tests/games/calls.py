"""Games over HTTP: how the tests create them, send commands, and run instances."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx
import psycopg

from tests.callers import SESSIONS, Headers

Sql = psycopg.Connection[Any]
_numbers = count(1)


class Games:
    """The service's calls, as a bot makes them."""

    def __init__(self, api: httpx.Client, headers: Headers) -> None:
        self.api, self.headers = api, headers

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.api.post(path, json=body, headers=self.headers)

    def create(self, **fields: Any) -> httpx.Response:
        given = {"kind": "game", "guildId": "guild-1", "mode": "duel", "status": "active", **fields}
        return self.post(SESSIONS, **given)

    def start(self, **fields: Any) -> str:
        """Create a game and return its id."""
        answer = self.create(**fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["session"]["id"])

    def read(self, game: str) -> dict[str, Any]:
        answer = self.api.get(f"{SESSIONS}/{game}", headers=self.headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["session"]
        return found

    def events(self, game: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"{SESSIONS}/{game}/events", headers=self.headers).json()["events"]
        return found

    def command(self, game: str, version: int, **fields: Any) -> httpx.Response:
        given = {"commandId": f"command-{next(_numbers)}", "name": "guess", "version": version, **fields}
        return self.post(f"{SESSIONS}/{game}/commands", **given)

    def move(self, game: str, verb: str, **body: Any) -> httpx.Response:
        content = {"json": body} if body else {}
        return self.api.post(f"{SESSIONS}/{game}/{verb}", headers=self.headers, **content)  # type: ignore[arg-type]

    def open(self, instance: str = "bot-1", **body: Any) -> int:
        answer = self.post(f"/api/instances/{instance}/open", **body)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["incarnation"])

    def instance(self, verb: str, instance: str, incarnation: int, **body: Any) -> httpx.Response:
        return self.post(f"/api/instances/{instance}/{verb}", incarnation=incarnation, **body)

    def claim(self, game: str, incarnation: int, **body: Any) -> httpx.Response:
        return self.post(f"{SESSIONS}/{game}/claim", incarnation=incarnation, **body)

    def owned(self, game: str, incarnation: int, **body: Any) -> int:
        """Claim a game and return its fence."""
        answer = self.claim(game, incarnation, **body)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["fence"])


def expire_lease(sql: Sql, incarnation: int) -> None:
    """Let the lease of an incarnation have run out a second ago."""
    sql.execute("update lull.instances set lease_until = now() - interval '1 s' where incarnation = %s", (incarnation,))


def age(sql: Sql, game: str, by: str) -> None:
    """Make every clock of a game older."""
    sql.execute(
        "update lull.sessions set last_activity_at = last_activity_at - %(by)s::interval, "
        "commanded_at = commanded_at - %(by)s::interval where id = %(game)s",
        {"by": by, "game": game},
    )
