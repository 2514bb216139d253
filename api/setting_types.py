"""Types of environment variables: how the text of each kind is read, and refused at start."""

import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, SecretStr, StringConstraints


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


# Never \w in a pattern: in pydantic it is all of Unicode's letters, and `\w{1,100}` takes 40 ms to compile.
_WORD = "[A-Za-z0-9_.+-]+"
LEAST_HOURS = 0.1
LEAST_MINUTES = 1
Hours = Annotated[float, Field(ge=LEAST_HOURS, le=8760, allow_inf_nan=False)]
Minutes = Annotated[float, Field(ge=LEAST_MINUTES, le=525_600, allow_inf_nan=False)]
Percent = Annotated[Decimal, Field(ge=0, le=100, decimal_places=2, allow_inf_nan=False)]
UserIds = Annotated[frozenset[UUID], BeforeValidator(_comma_separated)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
TimeZone = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]{1,64}$")]  # the database knows the names
FileTypes = Annotated[
    tuple[Annotated[str, StringConstraints(to_lower=True, pattern=rf"^(\*/\*|{_WORD}/(\*|{_WORD}))$")], ...],
    BeforeValidator(_comma_separated),
]


def _address(value: str) -> str:
    """Refuse at start an address that no HTTP client could call, and a query, which a project's address has not."""
    if not _is_callable(value) or urlsplit(value).query:
        raise ValueError("must be the address of a project, such as https://abcdefgh.supabase.co")
    return value


def _webhook_address(value: str) -> str:
    """Refuse at start an address that no HTTP client could call. A query is allowed."""
    if not _is_callable(value):
        raise ValueError("must be a URL, such as https://example.com/hooks/lull?tenant=7")
    return value


def _is_callable(value: str) -> bool:
    try:
        parts = urlsplit(value)
        usable = _has_host(value, parts.hostname or "") and (parts.port or 0) >= 0
    except ValueError:
        return False
    return usable and not parts.fragment and "\\" not in value


def _origin(value: str) -> str:
    """An origin as browsers send it: lower case, without a path, and without the scheme's own port."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if value == "*":
        return value
    rest = (parts.path in {"", "/"}) and not (parts.query or parts.fragment or parts.username) if host else False
    if not rest or not re.fullmatch(r"[a-z0-9.:_-]+", host) or parts.scheme not in {"http", "https"}:
        raise ValueError("must be origins, separated by commas, such as https://app.example.com")
    shown = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown}" + ("" if port in (None, usual) else f":{port}")


@dataclass(frozen=True)
class Link:
    """A way on from a page: its label, and an address of the same origin or a whole URL."""

    label: str
    address: str


def _links(value: object) -> object:
    """Read `Home=https://app.example.com, Help=/help`: labels, and addresses that a page can link to."""
    if not isinstance(value, str):
        return value
    found = []
    for part in filter(None, (part.strip() for part in value.split(","))):
        label, _, address = (piece.strip() for piece in part.partition("="))
        if not label or not re.fullmatch(r"/(?!/)[^\s\\]*|https?://[^\s\\]+", address):
            raise ValueError("must be labels with addresses, such as Home=https://app.example.com/, Help=/help")
        found.append(Link(label, address))
    return found


def _has_host(address: str, host: str) -> bool:
    """Whether an address names a host. Only unusual addresses need httpx, whose import is slow."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", host):
        return bool(IPv4Address(host))
    if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host) and "xn--" not in host:
        return True
    import httpx

    try:
        return bool(httpx.URL(address).host)
    except httpx.InvalidURL:
        return False


def _connection_url(value: SecretStr) -> SecretStr:
    """Refuse at start a URL that libpq would refuse. psycopg is imported only if the variable is set."""
    url = value.get_secret_value()
    if not re.match(r"postgres(ql)?://", url):
        raise ValueError("must be a URL such as postgresql://user:password@host:5432/postgres")
    try:
        from psycopg import Error
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise ValueError("needs psycopg: take the # from its line in infra/requirements.in, then `make lock`") from None
    try:
        conninfo_to_dict(url)
    except Error as error:
        # libpq's message may quote the password
        named = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
        raise ValueError(
            f"has the parameter {named[1]}, which Postgres does not know: leave it out"
            if named
            else "is no valid connection URL: write special characters of the password as %xx"
        ) from None
    return value


def check_redis_url(value: SecretStr) -> SecretStr:
    """Refuse at the start what names no server."""
    if not re.match(r"rediss?(\+cluster)?://[^\s/]+", value.get_secret_value()):
        raise ValueError("must be a URL such as redis://host:6379/0, or redis+cluster://host:6379 for a Cluster")
    return value


def check_secret_address(value: SecretStr) -> SecretStr:
    """Refuse at start an address that no HTTP client could call."""
    if not re.match(r"https?://[^\s/]+", value.get_secret_value()) or not _is_callable(value.get_secret_value()):
        raise ValueError("must be a URL, such as https://example.com/a/path")
    return value


def check_encrypted(value: str) -> str:
    """Refuse at start an address at which the secret key would travel in the clear."""
    host = urlsplit(value).hostname or ""
    is_loopback = host == "localhost" or host == "::1" or re.fullmatch(r"127(\.[0-9]+){3}", host) is not None
    if value.startswith("http:") and not is_loopback:
        raise ValueError("must begin with https://; http:// is for this machine only (localhost, 127.0.0.1 or [::1])")
    return value


_HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+[^\s]*$")]
Url = Annotated[_HttpUrl, AfterValidator(_address)]
WebhookUrl = Annotated[_HttpUrl, AfterValidator(_webhook_address)]
Origins = Annotated[frozenset[Annotated[str, AfterValidator(_origin)]], BeforeValidator(_comma_separated)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(_comma_separated)]
Links = Annotated[tuple[Link, ...], BeforeValidator(_links)]
ConnectionUrl = Annotated[SecretStr, AfterValidator(_connection_url)]
