"""The Lambda handler: an HTTP event goes through Mangum to the API, a scheduler's straight to the run."""

import importlib
import logging
import os
import sys
from typing import Any

from mangum import Mangum

from api.cleanup.policies import subject_of
from api.cleanup.report import run_report
from api.cleanup.run import run_cleanup
from api.settings import load_settings
from infra.aws.parameters import Parameters, ParametersUnavailable

log = logging.getLogger("lull.aws")


class Lull:
    """The API and the cleanup, made from the environment, and made anew when a secret in it was rotated."""

    def __init__(self, parameters: Parameters) -> None:
        """Read the secrets, and only then import the API: importing it reads the environment."""
        self._parameters = parameters
        parameters.refresh()
        self._open()
        if parameters.absent:
            log.info("parameters absent", extra={"fields": {"names": parameters.absent}})

    def handle(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer an HTTP event, or run the cleanup for a scheduler.

        A run that failed, was stopped by the breaker or lost its lease raises Problem, so that Lambda's own
        error count and alarms see it. Any other event raises ValueError and runs nothing.
        """
        self._refresh()
        if _is_http(event):
            return self._http(event, context)
        if _is_schedule(event):
            outcome = run_cleanup(self._cleanup, caller="aws-scheduler")
            report = run_report(outcome, self._cleanup.policies, subject_of(self._cleanup.policies))
            return report.model_dump(mode="json", by_alias=True)
        message = 'neither an HTTP event nor a schedule\'s: send {"task": "cleanup"} to run the cleanup'
        raise ValueError(message)

    def _open(self) -> None:
        is_first = "api.index" not in sys.modules
        index = importlib.import_module("api.index")
        # importing it has made an app; one that was made before may have other secrets
        self._http = Mangum(index.app if is_first else index.create_app(), lifespan="off")
        self._cleanup = index.create_cleanup(load_settings())

    def _refresh(self) -> None:
        """Take rotated secrets into use; when they cannot be read, go on with those that were."""
        try:
            if self._parameters.refresh():
                self._open()
                log.info("parameters changed")
        except ParametersUnavailable as error:
            log.warning("parameters unavailable", extra={"fields": {"error": str(error)}})


def _is_http(event: dict[str, Any]) -> bool:
    """API Gateway REST and HTTP APIs, function URLs and load balancers all say who asked for what."""
    return "requestContext" in event and ("httpMethod" in event or "http" in event["requestContext"])


def _is_schedule(event: dict[str, Any]) -> bool:
    """An EventBridge rule's event, or the input that our EventBridge Scheduler schedule is given."""
    is_default = event.get("source") in {"aws.events", "aws.scheduler"}
    scheduled = is_default and event.get("detail-type") == "Scheduled Event"
    return scheduled or event == {"task": "cleanup"}


handler = Lull(Parameters(os.environ)).handle
