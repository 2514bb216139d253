"""Spans and counts through OpenTelemetry's API package; a missing SDK is one warning; nothing of a caller's is in them."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext

from api import telemetry
from tests.calls import CLEANUP, add_session, settings

Sql = psycopg.Connection[Any]
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Recorded(NonRecordingSpan):
    """A span that keeps what is said of it."""

    def __init__(self, name: str, attributes: dict[str, Any], parent: SpanContext) -> None:
        super().__init__(SpanContext(parent.trace_id or 1, 2, is_remote=False))
        self.name, self.attributes, self.parent = name, dict(attributes), parent

    def update_name(self, name: str) -> None:
        self.name = name

    def set_attributes(self, attributes: Any) -> None:
        self.attributes |= attributes


class Recorder(trace.TracerProvider, trace.Tracer):
    """A provider, as an installed SDK would set one; it keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Recorded] = []

    def get_tracer(self, *_names: Any, **_options: Any) -> trace.Tracer:
        return self

    def start_span(self, name: str, context: Any = None, *_rest: Any, **options: Any) -> Span:
        parent = trace.get_current_span(context).get_span_context()
        self.spans.append(Recorded(name, options.get("attributes") or {}, parent))
        return self.spans[-1]

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, context: Any = None, *_rest: Any, **options: Any
    ) -> Iterator[Span]:
        with trace.use_span(self.start_span(name, context, **options), record_exception=False) as span:
            yield span


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    made = Recorder()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: made)
    monkeypatch.setattr(trace, "get_tracer", made.get_tracer)
    telemetry.start(settings(otel_traces_exporter="otlp"))
    yield made
    telemetry.stop()


def test_a_request_its_calls_and_a_run_are_spans_below_the_callers(
    api: httpx.Client, admin: dict[str, str], sql: Sql, recorder: Recorder
) -> None:
    session = add_session(sql, title="secret title")
    answer = api.get(f"/api/sessions/{session}?table=hush", headers={"traceparent": PARENT, "X-Session-Token": "hush"})
    assert answer.status_code == 404
    root, call = recorder.spans[0], recorder.spans[1]
    assert len(recorder.spans) == 2, "and none of FastAPI's own, which have the address and the query"
    assert (root.name, root.attributes["http.response.status_code"]) == ("GET /api/sessions/{id}", 404)
    assert format(root.parent.trace_id, "032x") == PARENT.split("-")[1]
    assert call.name.startswith("lull_")
    recorder.spans.clear()
    api.post(CLEANUP, headers=admin, params={"policy": "abandoned-drafts"})
    names = [span.name for span in recorder.spans]
    assert names[0] == f"POST {CLEANUP}"
    assert {"cleanup run", "cleanup policy", "lull_cleanup_lane", "lull_finish_cleanup"} <= set(names)
    said = json.dumps([[span.name, span.attributes] for span in recorder.spans])
    assert session not in said
    assert "secret title" not in said


def test_without_its_sdk_each_is_one_warning_and_the_api_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("sentry_sdk", "opentelemetry.sdk.trace"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(logging.getLogger("lull"), "propagate", True)
    with caplog.at_level("WARNING", "lull.telemetry"):
        telemetry.start(settings(otel_traces_exporter="console", sentry_dsn="https://key@sentry.example.com/1"))
    assert len({record.message for record in caplog.records}) == 2
    with telemetry.span("x") as span:
        assert span is None
    telemetry.count("x", 1)
    telemetry.report_error("x")
    assert not telemetry.is_on()
    telemetry.stop()


def test_without_its_variables_nothing_is_imported_or_counted() -> None:
    telemetry.start(settings())
    assert not telemetry.is_on()
    with telemetry.span("x") as span:
        assert span is None


@pytest.mark.skipif(not importlib.util.find_spec("opentelemetry.sdk"), reason="opentelemetry-sdk is not installed")
def test_with_the_sdk_spans_and_counts_are_exported() -> None:
    script = (
        "from api import telemetry; from api.settings import Settings\n"
        "telemetry.start(Settings(otel_traces_exporter='console', otel_metrics_exporter='console'))\n"
        "with telemetry.span('a span', http__route='/x'): telemetry.count('lull.deleted_rows', 3, policy='p')\n"
        "telemetry.flush()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), capture_output=True, text=True, check=True)
    assert '"name": "a span"' in done.stdout
    assert '"http.route": "/x"' in done.stdout
    assert '"value": 3' in done.stdout
