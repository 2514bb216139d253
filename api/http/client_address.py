"""Where a request came from: what its platform and the trusted proxies vouch for, as a hash that needs a secret."""

import hmac
import logging
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.requests import Request

from api.settings import Settings

log = logging.getLogger("lull.http")

_PREFIX = 64  # of one IPv6 customer


def client_hash(settings: Settings, request: Request) -> str | None:
    """The keyed hash of a client's address, in hexadecimal; None when the platform gives no address.

    The key comes from a secret of the project, so that a copy of the database does not tell who was there.
    """
    address = client_address(settings, request)
    key = settings.derived_key(b"lull client address")
    if address is None or key is None:
        return None
    return hmac.digest(key, address.encode(), "sha256").hex()


def client_address(settings: Settings, request: Request) -> str | None:
    """The address of the client, an IPv6 one as its network of 64 bits; None when the platform gives none.

    On Vercel it is the header that Vercel overwrites; elsewhere the peer of the connection, which Mangum
    fills in from the event's `sourceIp`. A peer in TRUSTED_PROXIES stands for the addresses that it adds to
    X-Forwarded-For: they are read from the right, and the first one that is not such a proxy is the client. What a
    client could have written itself is never read. Without TRUSTED_PROXIES, all clients behind a proxy count as one.
    """
    headers = request.headers
    if settings.vercel == "1":
        given = headers.getlist("x-vercel-forwarded-for") or headers.getlist("x-real-ip")
    else:
        given = [request.client.host] if request.client and request.client.host else []
    # the last one is the nearest to us, whatever a client put before it
    peer = _parsed(",".join(given).rpartition(",")[2])
    if peer is None:
        return None
    return _shown(_behind_proxies(settings, peer, headers.getlist("x-forwarded-for")))


def _behind_proxies(
    settings: Settings, peer: IPv4Address | IPv6Address, forwarded: list[str]
) -> IPv4Address | IPv6Address:
    """The nearest address that is no trusted proxy, or the farthest proxy that is known."""
    if not settings.trusted_proxies:
        if forwarded and not peer.is_global:
            _tell_about_proxy()
        return peer
    hops = ",".join(forwarded).split(",")
    while hops and any(peer in network for network in settings.trusted_proxies):
        before = _parsed(hops.pop())
        if before is None:
            break
        peer = before
    return peer


@cache
def _tell_about_proxy() -> None:
    """Tell the operator, once a process, that all clients are counted as one."""
    detail = "A proxy stands before this server: until TRUSTED_PROXIES names it, its clients share the limits of one."
    log.warning("proxy not trusted", extra={"fields": {"detail": detail}})


def _shown(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), _PREFIX), strict=False))
    return str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """The address in an entry, which may have a port (203.0.113.9:4711, [2001:db8::1]:4711) or a zone."""
    text = text.strip().partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
