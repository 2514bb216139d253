"""What an event asks of the Lambda function, and an HTTP event as Mangum can read it."""

from typing import Any

from api.features import FEATURES

CLEANUP = {"task": "cleanup"}
SWEEP = {"task": "sweep"}
_WARMING = "warm"  # keep-warm plug-ins send {"warmer": true}, {"source": "serverless-plugin-warmup"} and the like


def is_http(event: dict[str, Any]) -> bool:
    """Whether it is a request: REST and HTTP APIs, function URLs and load balancers all name a method."""
    context = event.get("requestContext")
    return isinstance(context, dict) and ("httpMethod" in event or isinstance(context.get("http"), dict))


def is_cleanup(event: dict[str, Any]) -> bool:
    """Whether it is our own schedule's: its input alone, or an EventBridge event with that as its detail."""
    return CLEANUP in (event, event.get("detail"))


def is_sweep(event: dict[str, Any]) -> bool:
    """Whether it is the schedule's of each minute, in the same forms."""
    return SWEEP in (event, event.get("detail"))


def is_idle(event: dict[str, Any]) -> bool:
    """Whether it is a schedule's that is not ours, or keeps the function warm: there is nothing to do for it."""
    if event.get("detail-type") == "Scheduled Event":
        return True
    return _WARMING in str(event.get("source", "")).lower() or any(_WARMING in str(name).lower() for name in event)


def readable(event: dict[str, Any]) -> dict[str, Any]:
    """An HTTP event with everything that Mangum reads, and without the stage in front of its path.

    An event that a console or a test made up may lack headers, a path, or an address.
    """
    context = event["requestContext"]
    headers = {name: str(value) for name, value in (event.get("headers") or {}).items() if value is not None}
    if "http" not in context:
        identity = {"sourceIp": None, **(context.get("identity") or {})}
        path = event.get("path") or "/"
        return {"path": path, **event, "headers": headers, "requestContext": {**context, "identity": identity}}
    http = {"method": "GET", "path": event.get("rawPath") or "/", "sourceIp": None, **context["http"]}
    http["path"] = _without_stage(http["path"] or "/", context.get("stage"))
    return {"version": "2.0", **event, "headers": headers, "requestContext": {**context, "http": http}}


def _without_stage(path: str, stage: object) -> str:
    """The path behind a named stage of an HTTP API; an address of ours as it is, whatever the stage is named."""
    inside = path.removeprefix(f"/{stage}")
    is_below = inside != path and inside[:1] in ("", "/")
    if not is_below or any(feature.matches(path) for feature in FEATURES):
        return path
    return inside or "/"
