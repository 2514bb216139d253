"""Send one event to one receiver: signed by Standard Webhooks, sent to a checked address, judged by the status."""

import asyncio
import base64
import json
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

import httpx
from standardwebhooks import Webhook

from api import __version__
from api.errors import not_configured
from api.events.addresses import Resolve, permitted, resolve
from api.events.schemas import ClaimedEvent
from api.http.schemas import utc
from api.settings import Settings

_CONNECT_SECONDS = 2.0
_LONGEST_ANSWER = 64 * 1024  # bytes that are read so that the connection can be reused; the content is ignored

Outcome = Literal["delivered", "failed", "gone"]


@dataclass(frozen=True)
class Attempt:
    """The result of one attempt, as `lull_settle_deliveries` takes it. `error` is for the operator."""

    outcome: Outcome
    error: str | None = None


@dataclass(frozen=True)
class Receiver:
    """The receiver's URL and the key that signs its events. `resolve` and `tls` are replaced by tests."""

    url: httpx.URL
    signer: Webhook = field(repr=False)
    allow_private: bool
    resolve: Resolve = resolve
    tls: ssl.SSLContext | bool = True

    def addresses(self) -> list[str]:
        """Resolve the receiver's name. Requests connect to these addresses, so that no second lookup can give
        another one. Raises AddressRefused."""
        port = self.url.port or (443 if self.url.scheme == "https" else 80)
        return permitted(self.resolve(self.url.host, port), allow_private=self.allow_private)


def create_receiver(settings: Settings) -> Receiver:
    """The receiver in the settings. Raises Problem 503 when there is none or it cannot be used."""
    if settings.events_webhook_url is None:
        raise not_configured("EVENTS_WEBHOOK_URL is not set.")
    secret = settings.events_webhook_secret
    if secret is None:
        raise not_configured("EVENTS_WEBHOOK_SECRET is not set.")
    try:
        url = httpx.URL(settings.events_webhook_url)
    except httpx.InvalidURL:
        raise not_configured("EVENTS_WEBHOOK_URL is not a URL.") from None
    if not url.host:
        raise not_configured("EVENTS_WEBHOOK_URL names no host.")
    if url.scheme != "https" and not settings.events_webhook_allow_private:
        raise not_configured("EVENTS_WEBHOOK_URL must begin with https://.")
    return Receiver(url, _signer(secret.get_secret_value().strip()), settings.events_webhook_allow_private)


def _signer(secret: str) -> Webhook:
    """Standard Webhooks requires `whsec_` and 24 to 64 bytes in base64; the library does not check this."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise not_configured("EVENTS_WEBHOOK_SECRET must be whsec_ and 24 to 64 bytes in base64.")
    return Webhook(key)


def message_of(event: ClaimedEvent) -> tuple[str, bytes]:
    """The id and the body of an event's message: the same for every attempt, so that duplicates are recognisable.

    `data` is the same as in a broadcast of the event.
    """
    at = utc(event.at)
    data = {
        "id": event.id,
        "sessionId": event.session_id,
        "kind": event.kind,
        "event": event.event,
        "at": at,
        "data": event.data,
    }
    kind = event.event if event.event.startswith("session.") else f"session.{event.event}"
    message = {"type": kind, "timestamp": at, "data": data}
    return f"evt_{event.id}", json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def open_client(receiver: Receiver) -> httpx.AsyncClient:
    """An HTTP client that uses no proxy (which would resolve the name again) and follows no redirect."""
    return httpx.AsyncClient(verify=receiver.tls, trust_env=False, follow_redirects=False)


async def send(
    client: httpx.AsyncClient, receiver: Receiver, event: ClaimedEvent, addresses: list[str], seconds: float
) -> Attempt:
    """Send an event to the first of these addresses that accepts a connection, within `seconds` in total.

    A 2xx status means delivered, even if the body breaks off. 410 means that the receiver wants no more events.
    Any other result is retried later.
    """
    status: int | None = None
    reason = "the receiver could not be connected to"
    try:
        async with asyncio.timeout(seconds):
            for address in addresses:
                request = _request(client, receiver, event, address, seconds)
                try:
                    response = await client.send(request, stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
                try:
                    status = response.status_code
                    await _drain(response)
                finally:
                    await response.aclose()
                break
    except TimeoutError:
        reason = f"the receiver did not answer within {seconds:g} seconds"
    except (httpx.HTTPError, OSError) as error:
        reason = f"the receiver closed the connection: {type(error).__name__}"
    return Attempt("failed", reason) if status is None else _judge(status)


def _judge(status: int) -> Attempt:
    if 200 <= status <= 299:
        return Attempt("delivered")
    if status == HTTPStatus.GONE:
        return Attempt("gone", "the receiver answered 410: it wants no more events")
    if 300 <= status <= 399:
        return Attempt("failed", f"the receiver answered {status}: redirects are not followed")
    return Attempt("failed", f"the receiver answered {status}")


def _request(
    client: httpx.AsyncClient, receiver: Receiver, event: ClaimedEvent, address: str, seconds: float
) -> httpx.Request:
    """The signed request to an address. TLS verifies the certificate of the name."""
    identity, body = message_of(event)
    now = datetime.now(UTC)
    headers = {
        "Host": receiver.url.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "User-Agent": f"Lull/{__version__}",
        "webhook-id": identity,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": receiver.signer.sign(identity, now, body.decode()),
    }
    return client.build_request(
        "POST",
        receiver.url.copy_with(host=address),
        headers=headers,
        content=body,
        timeout=httpx.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds)),
        extensions={"sni_hostname": receiver.url.raw_host.decode("ascii")},
    )


async def _drain(response: httpx.Response) -> None:
    read = 0
    with suppress(httpx.HTTPError):
        async for chunk in response.aiter_raw():
            read += len(chunk)
            if read > _LONGEST_ANSWER:
                return
