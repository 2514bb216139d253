"""POST /api/admin/deliver: send what is due to the webhook now."""

from fastapi import Request

from api.events.delivery import deliver
from api.events.schemas import DeliveryReport
from api.events.webhook import create_receiver
from api.http.openapi import documented
from api.http.parts import parts_of
from api.http.routers import admin_router

ROUTE_SECONDS = 25.0

router = admin_router(tags=["events"])


@router.post("/api/admin/deliver", responses=documented(401, 422, 500, 503))
def deliver_events(request: Request) -> DeliveryReport:
    """Send due events to EVENTS_WEBHOOK_URL, for 25 seconds at most.

    Events are sent at least once, in order within a session; `webhook-id` identifies duplicates. A failed
    attempt is no error of this route: read `failed`, `errors` and `pending`.
    """
    parts = parts_of(request)
    return deliver(create_receiver(parts.settings), parts.database, ROUTE_SECONDS)
