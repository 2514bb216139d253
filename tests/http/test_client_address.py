"""The address of a client, by platform."""

from typing import Any

import pytest
from mangum import Mangum
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from api.composition import create_app
from api.http.client_address import _tell_about_proxy, client_address, client_hash
from tests.calls import settings
from tests.in_process import client_of


def request_from(host: str | None, **headers: str) -> Request:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": named, "client": (host, 1) if host else None})


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::/64"),
        ("::ffff:192.168.1.1", "192.168.1.1"),
        ("10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("testclient", None),
        ("", None),
        (None, None),
    ],
)
def test_it_is_the_peer_and_an_ipv6_address_counts_as_its_network(peer: str | None, address: str | None) -> None:
    assert client_address(settings(), request_from(peer)) == address


def test_on_vercel_only_its_own_headers_count() -> None:
    vercel = settings(vercel="1")
    both = request_from("127.0.0.1", x_vercel_forwarded_for="203.0.113.9", x_real_ip="203.0.113.8")
    assert client_address(vercel, both) == "203.0.113.9"
    assert client_address(vercel, request_from("127.0.0.1", x_real_ip="203.0.113.8")) == "203.0.113.8"
    assert client_address(vercel, request_from("127.0.0.1", x_forwarded_for="203.0.113.7")) is None
    assert client_address(settings(), both) == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.2.2.2", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8:1:2::7]:4711", "2001:db8:1:2::/64"),
        ("10.0.0.1", "2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "10.2.2.2", "10.2.2.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("203.0.113.200", "198.51.100.1", "203.0.113.200"),
        ("192.168.0.1", "198.51.100.1", "192.168.0.1"),
    ],
)
def test_a_trusted_proxy_stands_for_what_it_added_to_x_forwarded_for(peer: str, forwarded: str, address: str) -> None:
    behind = settings(trusted_proxies="10.0.0.0/8, 2001:db8:ffff::/48")
    assert client_address(behind, request_from(peer, x_forwarded_for=forwarded)) == address


def test_on_vercel_a_trusted_proxy_is_looked_through_as_well() -> None:
    behind = settings(vercel="1", trusted_proxies="203.0.113.9")
    sent = {"x_vercel_forwarded_for": "203.0.113.9", "x_forwarded_for": "198.51.100.1, 203.0.113.9"}
    assert client_address(behind, request_from("127.0.0.1", **sent)) == "198.51.100.1"


def test_the_operator_is_told_once_that_all_clients_count_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    _tell_about_proxy.cache_clear()
    with client_of(create_app(settings(supabase_secret_key="key"))) as client:
        for _ in range(3):
            client.post("/api/sessions", json={"kind": "room"}, headers={"x-forwarded-for": "203.0.113.9"})
    assert capsys.readouterr().out.count("TRUSTED_PROXIES") == 1


def test_a_hash_needs_the_key_and_is_not_the_same_under_another() -> None:
    request = request_from("203.0.113.9")
    hashes = {client_hash(settings(supabase_secret_key=key), request) for key in ("one", "two")}
    assert len(hashes) == 2
    assert client_hash(settings(), request) is None


def event(version: str, **headers: str) -> dict[str, Any]:
    """A request as API Gateway hands it to Lambda."""
    if version == "2.0":
        http = {"method": "GET", "path": "/", "sourceIp": "203.0.113.9", "protocol": "HTTP/1.1", "userAgent": ""}
        context: dict[str, Any] = {"http": http, "stage": "$default", "domainName": "lull.test"}
        return {"version": "2.0", "rawPath": "/", "rawQueryString": "", "headers": headers, "requestContext": context}
    context = {"identity": {"sourceIp": "203.0.113.9"}, "stage": "prod", "httpMethod": "GET"}
    event = {"httpMethod": "GET", "path": "/", "resource": "/", "headers": headers, "multiValueHeaders": {}}
    return event | {"requestContext": context, "queryStringParameters": None, "body": None}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_on_lambda_it_is_the_events_source(version: str) -> None:
    def show(request: Request) -> Response:
        return PlainTextResponse(client_address(settings(), request))

    handler = Mangum(Starlette(routes=[Route("/", show)]), lifespan="off")
    spoofed = {"x-forwarded-for": "198.51.100.1", "x-vercel-forwarded-for": "198.51.100.1"}
    answer = handler(event(version, **spoofed), {})  # type: ignore[arg-type]
    assert answer["body"] == "203.0.113.9"
