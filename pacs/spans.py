"""Traces for OpenTelemetry: a span for each association, for each of its messages, and for each HTTP request.

Imported only where a collector is named (OTEL_EXPORTER_OTLP_ENDPOINT); the SDK reads the other OTEL_* variables.
Spans carry the correlation id of the log lines, and no patient names or IDs.
"""

from __future__ import annotations

import threading

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pacs import __version__, correlation
from pacs.watching import Associated, Served

_NS = 1_000_000_000


class Spans:
    """Sends in a thread of its own; what the collector does not take is dropped. endpoint: http://host:4318."""

    def __init__(self, endpoint: str) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        resource = Resource({SERVICE_NAME: "pacs", SERVICE_VERSION: __version__}).merge(Resource.create())
        if str(resource.attributes.get(SERVICE_NAME)).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "pacs"}))
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("pacs", __version__)
        self._traces = TraceContextTextMapPropagator()
        self._lock = threading.Lock()
        self._associations: dict[str, Span] = {}

    def watch(self, event: Served | Associated) -> None:
        """A ``watching.Watch``."""
        if isinstance(event, Associated):
            self._associate(event)
        elif event.protocol == "dimse":
            self._message(event)
        else:
            self._request(event)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _associate(self, event: Associated) -> None:
        cause = correlation.current()
        if event.is_end:
            with self._lock:
                span = self._associations.pop(cause, None)
            if span is not None:
                span.end()
            return
        attributes = {
            "dicom.calling_ae_title": event.caller.name,
            "dicom.called_ae_title": event.called,
            "client.address": event.caller.address,
            "pacs.correlation_id": cause,
        }
        span = self._tracer.start_span("association", kind=SpanKind.SERVER, attributes=attributes)
        if event.reason:
            span.set_status(Status(StatusCode.ERROR, event.reason))
            span.end()
            return
        with self._lock:
            self._associations[cause] = span

    def _message(self, served: Served) -> None:
        association = self._associations.get(correlation.current())
        context = set_span_in_context(association) if association is not None else None
        attributes: dict[str, str | int] = {"dicom.status": served.status, "dicom.calling_ae_title": served.caller.name}
        self._record(served, served.service, context, attributes)

    def _request(self, served: Served) -> None:
        method, _, route = served.operation.partition(" ")
        context = self._traces.extract({"traceparent": served.parent}) if served.parent else None
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": int(served.status),
            "client.address": served.caller.address,
        }
        # A client's own mistake is no error of the server's span (semantic conventions for HTTP).
        self._record(served, served.operation, context, attributes, is_error=int(served.status) >= 500)

    def _record(
        self,
        served: Served,
        name: str,
        context: Context | None,
        attributes: dict[str, str | int],
        *,
        is_error: bool | None = None,
    ) -> None:
        attributes |= {
            "pacs.service": served.service,
            "pacs.received_bytes": served.received_bytes,
            "pacs.sent_bytes": served.sent_bytes,
            "pacs.correlation_id": correlation.current(),
        }
        began = int(served.began * _NS)
        # Without a context of our own, no other trace may be taken for its parent.
        span = self._tracer.start_span(name, context or Context(), SpanKind.SERVER, attributes, start_time=began)
        if served.is_failure if is_error is None else is_error:
            span.set_status(Status(StatusCode.ERROR, f"status {served.status}"))
        span.end(began + int(served.seconds * _NS))
