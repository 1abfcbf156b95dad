"""Spans, as an OpenTelemetry collector receives them."""

import gzip
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.builders import ct, data_set_of
from tests.server import Server
from tests.wire.clients import association, sop_uid_of, store_bytes

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """OTLP over HTTP, on loopback."""

    def __init__(self) -> None:
        self.spans, self.resources = [], []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.resources.append(attributes(resource.resource))
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def named(self, name):
        return [span for span in self.spans if span.name == name]


def attributes(holder):
    return {one.key: one.value.string_value or one.value.int_value for one in holder.attributes}


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def test_messages_are_spans_of_their_association_and_requests_of_who_asked(collector, tmp_path):
    file = ct(PatientName="Secret^Name", PatientID="SECRET-1")
    with Server(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}) as server:
        with association(server) as opened:
            assert store_bytes(opened, data_set_of(file), sop_uid_of(file)) == 0
            assert store_bytes(opened, b"nonsense", "1.2.3") != 0
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        url = f"{server.dicomweb_url}/studies?PatientID=SECRET-1"
        request_id = requests.get(url, headers=parent, timeout=20).headers["X-Request-ID"]
        requests.get(f"{server.http_url}/nothing", timeout=20)
    # All of it is sent when the server has stopped.
    (whole,) = collector.named("association")
    stored = collector.named("C-STORE")
    assert len(stored) == 2
    assert all(span.trace_id == whole.trace_id and span.parent_span_id == whole.span_id for span in stored)
    assert [span.status.code for span in stored] == [0, 2]
    assert attributes(stored[0])["dicom.status"] == "0000"
    assert whole.start_time_unix_nano <= stored[0].start_time_unix_nano < stored[0].end_time_unix_nano
    assert stored[0].end_time_unix_nano <= whole.end_time_unix_nano
    (asked,) = collector.named("GET /dicom-web/studies")
    assert (asked.trace_id.hex(), asked.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(asked)["pacs.correlation_id"] == request_id
    (missing,) = collector.named("GET *")
    assert missing.parent_span_id == b""
    assert attributes(missing)["http.response.status_code"] == 404
    assert missing.status.code == 0
    assert collector.resources[0]["service.name"] == "pacs"
    assert "SECRET" not in str(collector.spans).upper()


def test_without_a_collector_nothing_of_it_is_loaded():
    script = "import sys, pacs.app; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_collector_that_is_away_is_in_nobodys_way(tmp_path):
    with Server(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}) as server:
        assert requests.get(f"{server.dicomweb_url}/studies?limit=1", timeout=20).status_code in (200, 204)
