"""The composition root: builds the API from settings, and injects what one feature needs of another."""

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from api import __version__, cold_start, telemetry
from api.auth.callers import Callers
from api.cleanup.policies import load_policies
from api.database import Database
from api.errors import install_error_handlers
from api.features import FEATURES
from api.flags import create_flags
from api.http.browsers import AnswerHeaders, BrowserMethods
from api.http.feature_app import FeatureAPI
from api.http.parts import Parts
from api.observability import RequestLog, RequestNumbers, log_as_json
from api.settings import Settings

if TYPE_CHECKING:
    from api.cleanup.run import Cleanup
    from api.user_sessions.provider import UserSessionProvider


# FastAPI's own spans and logs have addresses with ids, queries and exceptions' texts. Ours do not (api/telemetry.py).
_NO_TELEMETRY_OF_FASTAPI = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)


def _never() -> bool:
    return False


def create_app(settings: Settings, is_stopping: Callable[[], bool] = _never) -> FeatureAPI:
    """Build the API from these settings. Connects to nothing.

    Raises SettingsError or PolicyError, which name what is wrong: a wrong policies file stops the start.
    """
    log_as_json(settings.log_level)
    load_policies(settings)
    parts = create_parts(settings, is_stopping)
    app = FeatureAPI(
        FEATURES,
        cold_start.importing,
        title="Lull",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY_OF_FASTAPI,
    )
    app.state.parts = parts
    install_error_handlers(app)
    app.add_middleware(BrowserMethods, preflight=bool(settings.cors_allowed_origins))
    is_serverless = bool(settings.vercel or settings.aws_lambda_function_name)
    app.add_middleware(RequestLog, numbers=parts.numbers, flushes=is_serverless)
    app.add_middleware(AnswerHeaders, origins=settings.cors_allowed_origins)
    return app


def create_parts(settings: Settings, is_stopping: Callable[[], bool] = _never) -> Parts:
    """Create the database client and the other shared parts. Connects to nothing. Raises SettingsError."""
    telemetry.start(settings)
    database = Database(settings)
    store = cache(partial(_user_sessions, settings, database))
    return Parts(
        settings=settings,
        database=database,
        callers=Callers(settings),
        decide=create_flags(settings),
        numbers=RequestNumbers(),
        after_run=partial(_after_run, settings, database),
        is_stopping=is_stopping,
        policies=partial(_policies, settings),
        receiver=partial(_receiver, settings),
        user_sessions=store,
        prune=partial(_prune, settings, store),
        user_session_numbers=partial(_user_session_numbers, store),
    )


def create_cleanup(settings: Settings, is_stopping: Callable[[], bool] = _never) -> "Cleanup":
    """A cleanup that is run without an HTTP request. Raises SettingsError or PolicyError.

    A run ends after its current batch once `is_stopping` returns True.
    """
    from api.cleanup.run import cleanup_of

    return cleanup_of(create_parts(settings, is_stopping))


def _after_run(settings: Settings, database: Database, seconds_left: float) -> None:
    from api.events.delivery import Webhooks, deliver_after_run
    from api.insight.rollups import roll_up
    from api.rooms.statistics import log_statistics

    started = time.monotonic()
    log_statistics(database)
    deliver_after_run(Webhooks(settings, database), seconds_left)
    roll_up(database, settings.statistics_time_zone, seconds_left - (time.monotonic() - started))


def _policies(settings: Settings) -> Sequence[dict[str, Any]]:
    return [policy.arguments() for policy in load_policies(settings)]


def _receiver(settings: Settings) -> object:
    from api.events.webhook import create_receiver

    return create_receiver(settings)


def _user_sessions(settings: Settings, database: Database) -> "UserSessionProvider":
    from api.user_sessions.stores import create_provider

    return create_provider(settings, database)


def _prune(settings: Settings, store: "Callable[[], UserSessionProvider]", dry_run: bool) -> dict[str, Any] | None:
    from api.user_sessions.pruning import prune

    return prune(settings, store, dry_run=dry_run)


def _user_session_numbers(store: "Callable[[], UserSessionProvider]") -> tuple[int | None, int | None]:
    from api.user_sessions.provider import UserSessionError

    unconfirmed: int | None = getattr(store(), "unconfirmed", None)
    try:
        return store().get_stats(limit=1).active_sessions, unconfirmed
    except UserSessionError:
        return None, unconfirmed
