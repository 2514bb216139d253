"""GET /api/health."""

import httpx

from api import __version__


def test_health_says_ok_and_the_version(api: httpx.Client) -> None:
    answer = api.get("/api/health")
    assert answer.json() == {"status": "ok", "version": __version__}
    assert answer.headers["cache-control"] == "no-store"
