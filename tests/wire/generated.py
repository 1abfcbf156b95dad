"""Requests that schemathesis makes up from the OpenAPI document, valid and invalid ones.

As a program it starts an archive of its own and sends as many as it is told: ``python -m tests.wire.generated 10000``.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import orjson
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.wire.clients import BOUNDARY

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("multipart/related")
def _multipart(context: Any, value: Any) -> bytes:
    """Now a well-formed part that holds rubbish, now rubbish all through."""
    content = _bytes(value)
    if len(content) % 3 == 0:
        return content
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return head + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@schemathesis.serializer("application/dicom")
def _dicom(context: Any, value: Any) -> bytes:
    return bytes(128) + b"DICM" + _bytes(value)


@schemathesis.serializer("application/dicom+json")
def _json(context: Any, value: Any) -> bytes:
    """Now a data set with a made-up value, now rubbish."""
    content = _bytes(value)
    if len(content) % 3 == 0:
        return content
    return orjson.dumps([{"00100010": {"vr": "PN", "Value": [content.decode("utf-8", "replace")]}, "00100020": None}])


@schemathesis.serializer("application/dicom+xml")
def _xml(context: Any, value: Any) -> bytes:
    content = _bytes(value)
    return content if len(content) % 3 == 0 else b"<NativeDicomModel>" + content + b"</NativeDicomModel>"


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


class Fuzzer:
    """restore: stores the example again, after a request may have deleted it.

    failures: what went wrong, each kind at each operation once.
    """

    def __init__(self, root_url: str, document_url: str, restore: Callable[[], None]) -> None:
        self.requests = 0
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self._seen: set[tuple[str, str]] = set()
        self._root_url = root_url
        self._restore = restore
        self._session = requests.Session()
        document = requests.get(document_url, timeout=60).json()
        self._schema = schemathesis.openapi.from_dict(document)
        self._examples = {
            parameter["name"]: parameter["example"]
            for methods in document["paths"].values()
            for operation in methods.values()
            for parameter in operation.get("parameters", [])
            if "example" in parameter and (parameter["in"] == "path" or parameter["required"])
        }

    def run(self, at_least: int) -> None:
        """Send so many requests or some more, as many to each operation."""
        found = [result.ok() for result in self._schema.get_all_operations()]
        seed = 0
        while self.requests < at_least:
            each = max(2, (at_least - self.requests) // (len(found) * 4))
            for operation in found:
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    # Once with made-up paths, which mostly lead nowhere, and once below what is there.
                    for is_example in (False, True):
                        seed += 1
                        self._try(operation, mode, is_example, each, seed)

    def _try(self, operation: Any, mode: GenerationMode, is_example: bool, examples: int, seed: int) -> None:
        if mode is GenerationMode.NEGATIVE and not (operation.path_parameters or operation.query or operation.body):
            return  # nothing can be wrong about it
        strategy = operation.as_strategy(generation_mode=mode)

        @hypothesis.seed(seed)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(strategy)
        def send(case: Any) -> None:
            if is_example:
                for place in (case.path_parameters, case.query):
                    for name in place or {}:
                        place[name] = self._examples.get(name, place[name])
            self._send(operation, case)

        try:
            send()
        except hypothesis.errors.Unsatisfiable:
            return  # nothing is invalid where anything goes
        if operation.method.upper() == "DELETE" and is_example:
            self._restore()

    def _send(self, operation: Any, case: Any) -> None:
        headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'}
        extra = headers if case.media_type == "multipart/related" else None
        began = time.monotonic()
        response = case.call(base_url=self._root_url, session=self._session, headers=extra, timeout=60)
        self.requests += 1
        self.statuses[response.status_code] += 1
        took_s = time.monotonic() - began
        if took_s > 10:
            self._note(operation, case, "slow", f"took {took_s:.1f} s")
        try:
            case.validate_response(response, checks=_CHECKS)
        except FailureGroup as group:
            for failure in group.exceptions:
                self._note(operation, case, type(failure).__name__, str(failure)[:600])

    def _note(self, operation: Any, case: Any, kind: str, text: str) -> None:
        if (operation.label, kind) not in self._seen:
            self._seen.add((operation.label, kind))
            self.failures.append(f"{operation.label}: {kind}: {text}\n{case.as_curl_command()[:600]}")


def main(number: int) -> int:
    from tests.unit.web.running import RunningArchive
    from tests.wire.test_web_openapi import store_example

    logging.getLogger("pacs.services").setLevel(logging.ERROR)  # rubbish is refused, thousands of times

    with tempfile.TemporaryDirectory() as folder, RunningArchive(Path(folder)) as web:
        store_example(web)
        fuzzer = Fuzzer(web.root_url, f"{web.dicomweb_url}/openapi.json", lambda: store_example(web))
        done = threading.Event()

        def report() -> None:
            while not done.wait(15):
                print(f"{fuzzer.requests} requests", file=sys.stderr, flush=True)

        threading.Thread(target=report, daemon=True).start()
        fuzzer.run(number)
        done.set()
    for failure in fuzzer.failures:
        print(failure, "\n")
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(fuzzer.statuses.items()))
    print(f"{fuzzer.requests} requests, {len(fuzzer.failures)} kinds of failure; answers {statuses}")
    return 1 if fuzzer.failures else 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
