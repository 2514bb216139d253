"""The composition root: settings → doors → routes. The only file with a top-level `app`."""

from fastapi import FastAPI

from api import __version__
from api.cleanup.handlers import cleanup_routes
from api.cleanup.policies import load_policies
from api.cleanup.run import Cleanup
from api.database import Database
from api.errors import install_error_handlers
from api.file_storage import FileStorage
from api.insight.handlers import router as insight_router
from api.observability import RequestLog, log_as_json
from api.settings import Settings, load_settings


def create_cleanup(settings: Settings) -> Cleanup:
    """Put together what a cleanup works with. Connects to nothing; raises PolicyError."""
    return Cleanup(
        database=Database(settings),
        storage=FileStorage(settings),
        policies=load_policies(settings),
        time_budget_seconds=settings.cleanup_time_budget_seconds,
        lease_seconds=settings.cleanup_lease_seconds,
    )


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the API from these settings, by default those of the environment.

    Raises SettingsError or PolicyError, which name what is wrong: better no start than a wrong one.
    """
    settings = settings or load_settings()
    log_as_json(settings.log_level)
    app = FastAPI(
        title="Lull",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
    )
    install_error_handlers(app)
    app.add_middleware(RequestLog)
    app.include_router(insight_router)
    app.include_router(cleanup_routes(settings, create_cleanup(settings)))
    return app


app = create_app()
