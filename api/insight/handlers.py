"""GET /api/health."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api import __version__


class Health(BaseModel):
    """Says that this process answers, and which version it is."""

    status: Literal["ok"] = "ok"
    version: str = __version__


router = APIRouter(tags=["insight"])


@router.get("/api/health")
def health(response: Response) -> Health:
    """Answer that the API is up; asks nothing of the database."""
    response.headers["Cache-Control"] = "no-store"
    return Health()
