"""The addresses of a webhook's receiver: the name is resolved once, and must lead to the public internet."""

import socket
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Resolve = Callable[[str, int], list[str]]

_SECONDS = 3.0
_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# Not public by IANA's registries, and unknown to older versions of Python's ipaddress.
_SPECIAL = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"), IPv6Network("3fff::/20"))


class AddressRefused(Exception):
    """The receiver's name has no address, or one that is not allowed; the message says which."""


def resolve(host: str, port: int) -> list[str]:
    """Resolve a host's addresses, IPv4 first: few serverless platforms can send to IPv6.

    Waits three seconds at most; a resolver has no time-out of its own. Raises AddressRefused.
    """
    found: list[str] = []

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(str(info[4][0]) for info in sorted(infos, key=lambda info: info[0] != socket.AF_INET))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    addresses = list(dict.fromkeys(found))
    if not addresses:
        raise AddressRefused("the receiver's name was not found")
    return addresses


def permitted(addresses: list[str], *, allow_private: bool) -> list[str]:
    """These addresses, if all of them are public or private ones are allowed.

    One address that is not public refuses them all: such a name is an attack. Raises AddressRefused.
    """
    refused = [address for address in addresses if not allow_private and not is_public(address)]
    if refused:
        raise AddressRefused("the receiver's address is not public: set EVENTS_WEBHOOK_ALLOW_PRIVATE=true")
    return addresses


def is_public(address: str) -> bool:
    """Whether an address is on the public internet. IPv4 addresses embedded in IPv6 ones are judged as IPv4."""
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False  # such as fe80::1%eth0, which names an interface of this machine


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        if address.scope_id is not None or address.teredo is not None:
            return False
        within = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            within = IPv4Address(int(address) & 0xFFFFFFFF)
        if within is not None:
            return _is_public(within)
        if address not in _GLOBAL_UNICAST:
            return False
    special = any(address in network for network in _SPECIAL)
    return address.is_global and not (special or address.is_multicast or address.is_reserved)
