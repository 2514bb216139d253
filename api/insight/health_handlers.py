"""GET /api/health/cleanup for anybody, and GET /api/admin/doctor for the admin."""

from fastapi import APIRouter, Depends, Request, Response

from api.auth import ADMIN_SCHEME, require_admin
from api.errors import documented
from api.insight.checkup import Checkup, Deployment, examine
from api.insight.health import CleanupHealth, cleanup_health, read_cleanup_facts
from api.winged import wing_router
from api.wire import refuse_repetition

_NEVER_STORED = {"Cache-Control": "no-store"}


def health_routes(deployment: Deployment) -> APIRouter:
    """The routes by which a deployment says how it is."""
    router = wing_router(tags=["insight"])
    settings, database = deployment.settings, deployment.database

    def admin(request: Request) -> None:
        require_admin(request, settings)

    @router.get("/api/health/cleanup", responses=documented(500, 503))
    def show_cleanup_health(response: Response) -> CleanupHealth:
        """Answer whether the cleanup runs; 503 when it is late, failing or stuck, and says which."""
        response.headers.update(_NEVER_STORED)
        return cleanup_health(read_cleanup_facts(database, settings.interval_minutes()))

    @router.get(
        "/api/admin/doctor",
        dependencies=[Depends(admin), Depends(refuse_repetition), *ADMIN_SCHEME],
        responses=documented(401, 422, 500, 503),
    )
    def show_checkup(response: Response) -> Checkup:
        """Check this deployment's settings, database and bucket; what is found is 200, faults too."""
        response.headers.update(_NEVER_STORED)
        return examine(deployment)

    return router
