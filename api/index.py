"""The composition root: settings → doors → routes. The only file with a top-level `app`.

A cold start imports what its first request needs: a wing, and what is heavy, is imported where it is made.
"""

from __future__ import annotations

import gc
import os

# Imports make no garbage. Looking for it takes a sixth of their time, and later as much at every collection.
gc.disable()

# Neither does pydantic look for plugins, for which it reads what every installed package says of itself.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import BaseModel

# FastAPI's models of a document are built when there is to be one: that is a fifth of a cold start, too.
_rebuild = vars(BaseModel)["model_rebuild"]
_when_needed = classmethod(lambda model, **how: _rebuild.__func__(model, **how) if how else None)
BaseModel.model_config["defer_build"] = True
BaseModel.model_rebuild = _when_needed  # type: ignore[method-assign, assignment]
from fastapi import APIRouter

BaseModel.model_rebuild = _rebuild  # type: ignore[method-assign]
del BaseModel.model_config["defer_build"]

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from api import __version__
from api.auth import Callers
from api.cleanup.policies import load_policies
from api.database import Database
from api.errors import install_error_handlers
from api.flags import create_flags
from api.observability import RequestLog, RequestNumbers, log_as_json
from api.settings import Settings, load_settings
from api.winged import WingedAPI

if TYPE_CHECKING:
    from api.cleanup.run import Cleanup


def _never() -> bool:
    return False


def create_cleanup(settings: Settings, is_stopping: Callable[[], bool] = _never) -> Cleanup:
    """Put together a cleanup, and what follows it. Connects to nothing; raises PolicyError.

    A run ends early, after its current batch, once `is_stopping` says that the process is about to end.
    """
    from api.cleanup.run import Cleanup
    from api.events.delivery import Webhooks, deliver_after_run
    from api.file_storage import FileStorage

    database = Database(settings)
    return Cleanup(
        database=database,
        storage=FileStorage(settings),
        policies=load_policies(settings),
        time_budget_seconds=settings.cleanup_time_budget_seconds,
        lease_seconds=settings.cleanup_lease_seconds,
        after_run=partial(deliver_after_run, Webhooks(settings, database)),
        is_stopping=is_stopping,
    )


def create_app(settings: Settings | None = None, is_stopping: Callable[[], bool] = _never) -> WingedAPI:
    """Build the API from these settings, by default those of the environment.

    Raises SettingsError or PolicyError, which name what is wrong: better no start than a wrong one.
    """
    settings = settings or load_settings()
    log_as_json(settings.log_level)
    load_policies(settings)
    app = WingedAPI(
        title="Lull",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
    )
    install_error_handlers(app)
    numbers = RequestNumbers()
    app.add_middleware(RequestLog, numbers=numbers)
    database, callers, decide = Database(settings), Callers(settings), create_flags(settings)

    def insight() -> APIRouter:
        from api.insight.handlers import insight_routes

        return insight_routes(settings, database, callers, decide, numbers)

    def health() -> APIRouter:
        from api.cleanup.report import PATH
        from api.events.webhook import create_receiver
        from api.insight.checkup import Deployment
        from api.insight.health_handlers import health_routes

        deployment = Deployment.of(
            settings,
            policies=lambda: [policy.arguments() for policy in load_policies(settings)],
            receiver=partial(create_receiver, settings),
            cleanup_route=PATH,
            numbers=numbers,
        )
        return health_routes(deployment)

    def cleanup() -> APIRouter:
        from api.cleanup.handlers import cleanup_routes

        return cleanup_routes(settings, create_cleanup(settings, is_stopping))

    def events() -> APIRouter:
        from api.events.delivery import Webhooks
        from api.events.handlers import event_routes

        return event_routes(Webhooks(settings, database))

    def sessions() -> APIRouter:
        from api.sessions.creation import Creation
        from api.sessions.handlers import session_routes

        return session_routes(Creation(settings, database, decide), callers)

    def files() -> APIRouter:
        from api.file_storage import FileStorage
        from api.sessions.file_handlers import file_routes
        from api.sessions.files import SessionFiles

        return file_routes(SessionFiles(settings, database, FileStorage(settings)), callers)

    app.add_wing("/api/(health$|flags|admin/(funnel|stats|metrics))", insight)
    app.add_wing("/api/(health/cleanup|admin/doctor)", health)
    app.add_wing("/api/admin/cleanup-sessions", cleanup)
    app.add_wing("/api/admin/deliver", events)
    app.add_wing("/api/sessions", sessions)
    app.add_wing("/api/sessions/[^/]+/files", files)
    return app


app = create_app()
gc.freeze()
gc.enable()
