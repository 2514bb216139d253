"""GET /api/health."""

import httpx


def test_health_says_ok_and_the_version(api: httpx.Client) -> None:
    answer = api.get("/api/health")
    assert answer.json() == {"status": "ok", "version": "0.1.0"}
    assert answer.headers["cache-control"] == "no-store"
