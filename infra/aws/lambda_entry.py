"""The Lambda handler: HTTP events go through Mangum to the API, a scheduler's events to the cleanup."""

import logging
import os
from typing import Any

from api import cold_start

cold_start.begin()  # before FastAPI is imported, which all imports below do

from mangum import Mangum

from api.composition import create_app, create_cleanup
from api.settings import Settings
from infra.aws.events import is_cleanup, is_http, is_idle, is_sweep, readable
from infra.aws.parameters import Parameters, ParametersUnavailable

log = logging.getLogger("lull.aws")

_SEND = 'send {"task": "cleanup"} to run the cleanup'
_NOT_OURS = f"No cleanup ran: the event is not our own schedule's. {_SEND[0].upper()}{_SEND[1:]}."


class Lull:
    """The API and the cleanup, created from the environment, and created again after a secret was rotated."""

    def __init__(self, parameters: Parameters) -> None:
        """Read the secrets, then create the API from the environment."""
        self._parameters = parameters
        parameters.refresh()
        self._open()
        if parameters.absent:
            log.info("parameters absent", extra={"fields": {"names": parameters.absent}})

    def handle(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer an HTTP event, or run the cleanup or the sweep for our own schedules.

        A run that failed, was stopped by the breaker or lost its lease raises Problem, so that Lambda's own
        error count and alarms see it. Another schedule's event, or one that keeps the function warm, does nothing and
        says so. Any other event raises ValueError and runs nothing.
        """
        self._refresh()
        if is_http(event):
            return self._http(readable(event), context)
        if is_cleanup(event):
            return _clean_up(self._settings)
        if is_sweep(event):
            return _sweep(self._settings)
        if is_idle(event):
            log.warning("nothing to do", extra={"fields": {"source": str(event.get("source")), "detail": _NOT_OURS}})
            return {"ran": False, "detail": _NOT_OURS}
        message = f"neither an HTTP event nor our schedule's: {_SEND}"
        raise ValueError(message)

    def _open(self) -> None:
        self._settings = Settings.from_environ(self._parameters.environ)
        self._http = Mangum(create_app(self._settings), lifespan="off")

    def _refresh(self) -> None:
        """Read rotated secrets. When they cannot be read, the old ones stay in use."""
        try:
            if self._parameters.refresh():
                self._open()
                log.info("parameters changed")
        except ParametersUnavailable as error:
            log.warning("parameters unavailable", extra={"fields": {"error": str(error)}})


def _clean_up(settings: Settings) -> dict[str, Any]:
    """Run the cleanup and return its report. The first run imports the feature, not a cold start."""
    from api.cleanup.policies import subject_of
    from api.cleanup.report import run_report
    from api.cleanup.run import run_cleanup

    cleanup = create_cleanup(settings)
    report = run_report(run_cleanup(cleanup, caller="aws-scheduler"), cleanup.policies, subject_of(cleanup.policies))
    return report.model_dump(mode="json", by_alias=True)


def _sweep(settings: Settings) -> dict[str, Any]:
    """Sweep and return what it did. The first sweep imports the feature, not a cold start."""
    from api.rooms.sweep import run_sweep

    report = run_sweep(create_cleanup(settings).database, settings, caller="aws-scheduler")
    return report.model_dump(mode="json", by_alias=True)


parameters = Parameters(os.environ)
handler = Lull(parameters).handle
if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    parameters.expire()  # instances may be restored from this snapshot days later, and its clock may stand still
cold_start.end()
