"""The Lambda handler: an HTTP event goes through Mangum to the API, a scheduler's straight to the run."""

from typing import Any

from mangum import Mangum

from api.cleanup.policies import subject_of
from api.cleanup.report import run_report
from api.cleanup.run import run_cleanup
from api.index import app, create_cleanup
from api.settings import load_settings

_http = Mangum(app, lifespan="off")
_cleanup = create_cleanup(load_settings())


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer an HTTP event, or run the cleanup for a scheduler.

    A run that failed, was stopped by the breaker or lost its lease raises Problem, so that Lambda's own
    error count and alarms see it. Any other event raises ValueError and runs nothing.
    """
    if _is_http(event):
        return _http(event, context)
    if _is_schedule(event):
        outcome = run_cleanup(_cleanup, caller="aws-scheduler")
        report = run_report(outcome, _cleanup.policies, subject_of(_cleanup.policies))
        return report.model_dump(mode="json", by_alias=True)
    raise ValueError('neither an HTTP event nor a schedule\'s: send {"task": "cleanup"} to run the cleanup')


def _is_http(event: dict[str, Any]) -> bool:
    """API Gateway REST and HTTP APIs, function URLs and load balancers all say who asked for what."""
    return "requestContext" in event and ("httpMethod" in event or "http" in event["requestContext"])


def _is_schedule(event: dict[str, Any]) -> bool:
    """An EventBridge rule's event, or the input that our EventBridge Scheduler schedule is given."""
    is_default = event.get("source") in {"aws.events", "aws.scheduler"}
    scheduled = is_default and event.get("detail-type") == "Scheduled Event"
    return scheduled or event == {"task": "cleanup"}
