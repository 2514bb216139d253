"""POST /api/admin/deliver: send what is due to the webhook now."""

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPBearer

from api.auth import require_admin
from api.errors import documented
from api.events.delivery import DeliveryReport, Webhooks, deliver
from api.events.webhook import create_receiver
from api.winged import wing_router

ROUTE_SECONDS = 25.0


def event_routes(webhooks: Webhooks) -> APIRouter:
    """The operator's route, over these parts."""

    def admin(request: Request) -> None:
        require_admin(request, webhooks.settings)

    scheme = HTTPBearer(auto_error=False, scheme_name="adminSecret")
    router = wing_router(tags=["events"], dependencies=[Depends(admin), Depends(scheme)])

    @router.post("/api/admin/deliver", responses=documented(401, 500, 503))
    def deliver_events(response: Response) -> DeliveryReport:
        """Send the events that are due to EVENTS_WEBHOOK_URL, for 25 seconds at most.

        Events are sent at least once, in order within a session; `webhook-id` tells a duplicate. An attempt
        that failed is no error of this route: read `failed`, `errors` and `pending`.
        """
        response.headers["Cache-Control"] = "no-store"
        return deliver(create_receiver(webhooks.settings), webhooks.database, ROUTE_SECONDS)

    return router
