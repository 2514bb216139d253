"""Spans and counts by OpenTelemetry, errors by Sentry: both off until `start` is given a setting that wants them.

Code calls `span`, `count` and `report_error` without asking. No body, header, query, user id or address is passed on:
the attributes are a method, a route's template, a status, a function's or policy's name, counts, and a request's id.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

from api.request_context import current_request
from api.settings import Settings

log = logging.getLogger("lull.telemetry")

Value = str | int | float
FLUSH_SECONDS = 0.5

_NO_SPAN = nullcontext()
_tracer: Any = None
_counters: dict[str, Any] = {}
_meter: Any = None
_sentry: Any = None
_flushes: list[Any] = []


def start(settings: Settings) -> None:
    """Turn on what the settings name. A missing SDK is one warning, and leaves it off.

    OpenTelemetry is wanted when an OTEL_*_EXPORTER or OTEL_EXPORTER_OTLP_ENDPOINT is set, Sentry when SENTRY_DSN is.
    A provider that the process has already (`opentelemetry-instrument`) is used as it is.
    """
    global _sentry
    if settings.otel_traces_exporter or settings.otel_metrics_exporter or settings.otel_exporter_otlp_endpoint:
        _start_opentelemetry(settings)
    if settings.sentry_dsn is not None:
        sentry = _imported("sentry_sdk", "SENTRY_DSN is set, and sentry-sdk is not installed: errors are only logged.")
        if sentry is not None:
            # without its integrations: they would send headers, bodies and queries
            sentry.init(
                dsn=settings.sentry_dsn.get_secret_value(),
                default_integrations=False,
                send_default_pii=False,
                include_local_variables=False,
                max_request_body_size="never",
                traces_sample_rate=0.0,
            )
            _sentry = sentry


def stop() -> None:
    """Turn everything off again: a process that makes several applications starts anew."""
    global _tracer, _meter, _sentry
    _tracer = _meter = _sentry = None
    _counters.clear()
    _flushes.clear()


def span(name: str, *, is_server: bool = False, **attributes: Value) -> AbstractContextManager[Any]:
    """A span around the block, with what is known at its beginning; the block may set more on it. None while off."""
    return _NO_SPAN if _tracer is None else _span(_tracer, name, is_server, attributes)


@contextmanager
def _span(tracer: Any, name: str, is_server: bool, attributes: dict[str, Value]) -> Iterator[Any]:
    from opentelemetry.trace import SpanKind, StatusCode

    options: dict[str, Any] = {"attributes": {key.replace("__", "."): value for key, value in attributes.items()}}
    options["kind"] = SpanKind.SERVER if is_server else SpanKind.INTERNAL
    options["context"] = _parent() if is_server else None
    # an exception's text may hold what a caller sent: only its kind of end is passed on
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False, **options) as it:
        try:
            yield it
        except BaseException:
            it.set_status(StatusCode.ERROR)
            raise


def answered(request_span: Any, method: str, route: str | None, status: int) -> None:
    """Name a request's span by its route's template, and say how it was answered."""
    if request_span is None:
        return
    from opentelemetry.trace import StatusCode

    request_span.update_name(f"{method} {route}" if route else method)
    request_span.set_attributes({"http.route": route or "none", "http.response.status_code": status})
    if status >= 500:
        request_span.set_status(StatusCode.ERROR)


def count(name: str, amount: int, **attributes: Value) -> None:
    """Add to a counter."""
    if _meter is not None and amount:
        if name not in _counters:
            _counters[name] = _meter.create_counter(name)
        _counters[name].add(amount, attributes)


def report_error(error: BaseException | str, **tags: Value) -> None:
    """Send an error to Sentry, with the request's id."""
    if _sentry is None:
        return
    context = current_request()
    known = tags | ({"request_id": context.request_id} if context else {})
    with _sentry.new_scope() as scope:
        for key, value in known.items():
            scope.set_tag(key, value)
        if isinstance(error, str):
            scope.capture_message(error, level="error")
        else:
            scope.capture_exception(error)


def check_in(run_id: str, status: str) -> None:
    """Tell Sentry's cron monitor `lull-cleanup` about a run: `in_progress`, `ok` or `error`, under the run's id."""
    if _sentry is not None:
        crons = import_module("sentry_sdk.crons")
        crons.capture_checkin(monitor_slug="lull-cleanup", check_in_id=run_id.replace("-", ""), status=status)


def is_on() -> bool:
    """Whether anything has to be flushed before a serverless process is frozen."""
    return bool(_flushes) or _sentry is not None


def flush() -> None:
    """Send what waits, for at most half a second."""
    for each in _flushes:
        each(int(FLUSH_SECONDS * 1000 / len(_flushes)))
    if _sentry is not None:
        _sentry.flush(timeout=FLUSH_SECONDS)


def _imported(module: str, warning: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        log.warning(warning)
        return None


def _start_opentelemetry(settings: Settings) -> None:
    global _tracer, _meter
    trace, metrics = import_module("opentelemetry.trace"), import_module("opentelemetry.metrics")
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        try:
            _set_providers(settings, trace, metrics)
        except ImportError:
            log.warning("OpenTelemetry is configured, and its SDK or exporter is not installed: nothing is exported.")
            return
    _tracer, _meter = trace.get_tracer("lull"), metrics.get_meter("lull")


def _set_providers(settings: Settings, trace: Any, metrics: Any) -> None:
    """Set up the SDK with the exporters that the variables name: otlp (default), console or none."""
    sdk, resources = import_module("opentelemetry.sdk.trace"), import_module("opentelemetry.sdk.resources")
    export = import_module("opentelemetry.sdk.trace.export")
    name = os.environ.get("OTEL_SERVICE_NAME", "lull")
    resource = resources.Resource.create({"service.name": name})
    traces = settings.otel_traces_exporter or ("otlp" if settings.otel_exporter_otlp_endpoint else "none")
    if traces != "none":
        exporter = export.ConsoleSpanExporter() if traces == "console" else _otlp("trace_exporter").OTLPSpanExporter()
        provider = sdk.TracerProvider(resource=resource)
        provider.add_span_processor(export.BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        _flushes.append(provider.force_flush)
    measured = settings.otel_metrics_exporter or ("otlp" if settings.otel_exporter_otlp_endpoint else "none")
    if measured != "none":
        numbers, readers = import_module("opentelemetry.sdk.metrics"), import_module("opentelemetry.sdk.metrics.export")
        is_console = measured == "console"
        sink = readers.ConsoleMetricExporter() if is_console else _otlp("metric_exporter").OTLPMetricExporter()
        reader = readers.PeriodicExportingMetricReader(sink)
        meters = numbers.MeterProvider(resource=resource, metric_readers=[reader])
        metrics.set_meter_provider(meters)
        _flushes.append(meters.force_flush)


def _otlp(kind: str) -> Any:
    return import_module(f"opentelemetry.exporter.otlp.proto.http.{kind}")


def _parent() -> Any:
    """The caller's span, as `traceparent` names it."""
    context = current_request()
    if context is None or context.traceparent is None:
        return None
    propagation = import_module("opentelemetry.trace.propagation.tracecontext")
    return propagation.TraceContextTextMapPropagator().extract({"traceparent": context.traceparent})
