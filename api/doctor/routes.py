"""GET /api/admin/doctor: the checks of this deployment."""

from fastapi import Request

from api.doctor.examination import Deployment, examine
from api.doctor.schemas import DoctorReport
from api.http.openapi import documented
from api.http.parts import parts_of
from api.http.routers import admin_router

router = admin_router(tags=["insight"])


@router.get("/api/admin/doctor", responses=documented(401, 422, 500, 503))
def show_doctor_report(request: Request) -> DoctorReport:
    """Check this deployment's settings, database and bucket. The answer is 200 even if checks fail."""
    return examine(Deployment.of(parts_of(request)))
