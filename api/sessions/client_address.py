"""Where a request came from: what its platform vouches for, as a hash that needs a secret."""

import hmac
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.requests import Request

from api.settings import Settings

_PREFIX = 64  # of one IPv6 customer
# A peer in here is a proxy or this machine itself: it stands for all of its clients at once.
_NEAR = [
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]


def client_hash(settings: Settings, request: Request) -> str | None:
    """The keyed hash of a client's address, in hexadecimal; None when nobody vouches for an address.

    The key comes from a secret of the project, so that a copy of the database does not tell who was there.
    """
    address = client_address(request, vercel=settings.vercel == "1")
    key = settings.derived_key(b"lull client address")
    if address is None or key is None:
        return None
    return hmac.digest(key, address.encode(), "sha256").hex()


def client_address(request: Request, *, vercel: bool) -> str | None:
    """The address of the client, an IPv6 one as its network of 64 bits; None when there is none to trust.

    On Vercel it is the header that Vercel overwrites; elsewhere the peer of the connection, which Mangum
    fills in from the event's `sourceIp`. What a client could have written itself is never read, and a peer
    nearby (a proxy, this machine) is no client's address: limiting it would limit everybody behind it.
    """
    if vercel:
        headers = request.headers
        given = headers.getlist("x-vercel-forwarded-for") or headers.getlist("x-real-ip")
    else:
        given = [request.client.host] if request.client else []
    # the last one is the nearest to us, whatever a client put before it
    address = _parsed(",".join(given).rpartition(",")[2])
    if address is None or (not vercel and any(address in network for network in _NEAR)):
        return None
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), _PREFIX), strict=False))
    return str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
