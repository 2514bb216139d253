"""Where a request came from: what its platform vouches for, as a hash that only the secret key can make."""

import hmac
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.requests import Request

from api.settings import Settings

_PREFIX = 64  # of one IPv6 customer


def client_hash(settings: Settings, request: Request) -> str | None:
    """The keyed hash of a client's address, in hexadecimal; None when nobody vouches for an address.

    The key comes from the secret key, so that a copy of the database does not tell who was there.
    """
    address = client_address(request, vercel=settings.vercel == "1")
    if address is None or settings.supabase_secret_key is None:
        return None
    secret = settings.supabase_secret_key.get_secret_value().strip().encode()
    key = hmac.digest(secret, b"lull client address", "sha256")
    return hmac.digest(key, address.encode(), "sha256").hex()


def client_address(request: Request, *, vercel: bool) -> str | None:
    """The address of the client, an IPv6 one as its network of 64 bits; None when there is none to trust.

    On Vercel it is the header that Vercel overwrites; elsewhere the peer of the connection, which Mangum
    fills in from the event's `sourceIp`. What a client could have written itself is never read.
    """
    if vercel:
        headers = request.headers
        given = headers.getlist("x-vercel-forwarded-for") or headers.getlist("x-real-ip")
    else:
        given = [request.client.host] if request.client else []
    # the last one is the nearest to us, whatever a client put before it
    return _network(",".join(given).rpartition(",")[2])


def _network(text: str) -> str | None:
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address), _PREFIX), strict=False))
    return str(address)
