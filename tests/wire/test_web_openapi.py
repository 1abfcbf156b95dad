"""The OpenAPI document over real HTTP: valid, in step with the router, its examples work, and generated requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
import requests
from openapi_spec_validator import OpenAPIV31SpecValidator

from pacs.dicom.model import Caller
from pacs.dicom.uids import new_uid
from pacs.dicom.xml_model import to_xml
from pacs.errors import Conflict
from pacs.web.operations import EXAMPLE, EXAMPLE_PATIENT
from pacs.web.ups import EXAMPLE_WORKITEM
from tests import builders
from tests.unit.web.running import RunningArchive
from tests.ups_builders import as_json, step
from tests.wire.clients import STOW_TYPE, multipart, stow
from tests.wire.generated import Fuzzer
from tests.worklists import order

CALLER = Caller("TEST", "127.0.0.1", "test")
_GET_ONLY = ("get", "options")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("openapi")) as running:
        store_example(running)
        yield running


@pytest.fixture(scope="module")
def document(web: RunningArchive) -> dict[str, Any]:
    response = requests.get(f"{web.dicomweb_url}/openapi.json", timeout=60)
    assert response.headers["Content-Type"].startswith("application/json")
    found: dict[str, Any] = response.json()
    return found


def store_example(web: RunningArchive) -> None:
    example = builders.ct(
        EXAMPLE.study_uid, EXAMPLE.series_uid, EXAMPLE.sop_uid, rows=64, columns=64, PatientID=EXAMPLE_PATIENT
    )
    assert stow(web, [example]).status_code == 200  # type: ignore[arg-type]
    item = order(
        **{
            "00100020": {"vr": "LO", "Value": [EXAMPLE_PATIENT]},
            "0020000D": {"vr": "UI", "Value": [EXAMPLE.study_uid]},
            "step": {"00400009": {"vr": "SH", "Value": ["STEP-1"]}},
        }
    )
    web.procedures.worklist.put(item, CALLER)
    with suppress(Conflict):
        web.procedures.performed.create(EXAMPLE.sop_uid or "", performed(), CALLER)
    with suppress(Conflict):
        web.steps.create(EXAMPLE_WORKITEM, as_json(step(PatientID=EXAMPLE_PATIENT)), CALLER)


def performed() -> dict[str, Any]:
    values = {"00080060": "CT", "00100020": EXAMPLE_PATIENT, "00400241": "CT1", "00400244": "20260102"}
    values |= {"00400245": "1015", "00400252": "IN PROGRESS", "00400253": "PPS1"}
    step: dict[str, Any] = {tag: {"vr": "LO", "Value": [value]} for tag, value in values.items()}
    step["00400270"] = {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": [EXAMPLE.study_uid]}}]}
    return step


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_document_and_router_agree_in_both_directions(web: RunningArchive, document: dict[str, Any]) -> None:
    runner = web.server._runner
    assert runner is not None
    routed = set()
    for route in runner.app.router.routes():  # type: ignore[attr-defined]
        path = route.resource.canonical
        path = path.rstrip("/") or "/"  # each path is there with a slash at its end as well
        if route.method != "HEAD":
            routed.add((route.method.lower(), path))
    assert routed == {(method, path) for method, path, _ in operations(document)}


def test_without_deletion_the_document_has_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RunningArchive(tmp_path_factory.mktemp("without"), delete=None) as web:
        document = requests.get(f"{web.dicomweb_url}/openapi.json", timeout=60).json()
        deletes = [path for method, path, _ in operations(document) if method == "delete" and "/studies" in path]
        assert [path for path in deletes if "/labels" not in path] == []


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


def test_every_example_works(web: RunningArchive, document: dict[str, Any]) -> None:
    """Each parameter's example by itself; for windowCenter and its like together with what they need."""
    tried = 0
    for method, path, operation in operations(document):
        if method not in _GET_ONLY or "200" not in operation["responses"]:  # one becomes a WebSocket
            continue
        parameters = operation.get("parameters", [])
        url = web.root_url + path
        for parameter in parameters:
            if parameter["in"] == "path":
                url = url.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
        needed = {p["name"]: p["example"] for p in parameters if p["in"] == "query" and p["required"]}
        together = [{}]
        for parameter in parameters:
            if parameter["in"] == "query" and "example" in parameter:
                example = parameter["example"]
                together.append(example if parameter.get("explode") else {parameter["name"]: example})
        for query in together:
            if {"windowCenter", "windowWidth"} & set(query):
                query = {"windowCenter": 40, "windowWidth": 400}
            if "transferSyntax" in query:
                query = {**query, "contentType": "application/dicom"}
            response = requests.request(method, url, params={**needed, **query}, timeout=60)
            assert response.status_code == 200, f"{method} {response.url}: {response.status_code} {response.text[:300]}"
            content_type = response.headers["Content-Type"].partition(";")[0]
            assert content_type in operation["responses"]["200"]["content"], response.url
            tried += 1
    assert tried > 100


def test_storing_and_deleting_as_the_document_says(web: RunningArchive, document: dict[str, Any]) -> None:
    study, series, sop = new_uid(), new_uid(), new_uid()
    file = builders.ct(study, series, sop, rows=8, columns=8)
    changes = [(method, path, operation) for method, path, operation in operations(document) if "/studies" in path]
    stores = [(path, operation) for method, path, operation in changes if method == "post"]
    for path, operation in stores:
        for body, data in (("multipart/related", multipart([file])), ("application/dicom", file)):
            assert body in operation["requestBody"]["content"]
            headers = {"Content-Type": STOW_TYPE if "multipart" in body else body}
            url = web.root_url + path.replace("{study}", study)
            assert requests.post(url, data=data, headers=headers, timeout=60).status_code == 200
    deletes = [path for method, path, _ in changes if method == "delete" and "/labels" not in path]
    assert len(deletes) == 3
    for path in sorted(deletes, key=len, reverse=True):
        stow(web, [file])  # type: ignore[arg-type]
        url = web.root_url + path.replace("{study}", study).replace("{series}", series).replace("{instance}", sop)
        assert requests.delete(url, timeout=60).status_code == 204


def test_ordering_as_the_document_says(web: RunningArchive, document: dict[str, Any]) -> None:
    url = f"{web.dicomweb_url}/mwlitems"
    post = document["paths"]["/dicom-web/mwlitems"]["post"]
    for media_type, data in (
        ("application/dicom+json", orjson.dumps(order())),
        ("application/json", orjson.dumps([order()])),
        ("application/dicom+xml", to_xml(order())),
    ):
        assert media_type in post["requestBody"]["content"]
        made = requests.post(url, data=data, headers={"Content-Type": media_type}, timeout=60)
        assert made.status_code == 201, made.text
        address = made.headers["Location"]
        assert requests.put(address, data=data, headers={"Content-Type": media_type}, timeout=60).status_code == 200
        assert requests.post(f"{address}/status/ARRIVED", timeout=60).status_code == 200
        found = requests.get(address, headers={"Accept": "application/dicom+xml"}, timeout=60)
        assert found.headers["Content-Type"].startswith("application/dicom+xml")
        assert requests.delete(address, timeout=60).status_code == 204


def test_swagger_ui_comes_from_this_process_alone(web: RunningArchive) -> None:
    page = requests.get(f"{web.dicomweb_url}/docs", timeout=60)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    base = re.search(r'<base href="([^"]+)"', page.text)
    assert base is not None
    assert base[1] == f"{web.dicomweb_url}/docs/"
    names = [name for name in re.findall(r'(?:src|href)="([^"]+)"', page.text) if name != base[1]]
    assert {"swagger-ui.css", "swagger-ui-bundle.js", "start.js"} <= set(names)
    for name in names:
        response = requests.get(base[1] + name, timeout=60)
        assert response.status_code == 200, name
        again = requests.get(base[1] + name, headers={"If-None-Match": response.headers["ETag"]}, timeout=60)
        assert again.status_code == 304
    start = requests.get(f"{base[1]}start.js", timeout=60).text
    assert "../openapi.json" in start
    assert "http" not in start


def test_the_licence_of_swagger_ui_is_there_and_nothing_else_is(web: RunningArchive) -> None:
    assert "Apache License" in requests.get(f"{web.dicomweb_url}/docs/LICENSE", timeout=60).text
    for name in ("..%2F..%2Fserver.py", "__init__.py", "none.js", "%2E%2E%2F__init__.py"):
        assert requests.get(f"{web.dicomweb_url}/docs/{name}", timeout=60).status_code == 404, name


def test_generated_requests_find_no_500_and_no_answer_outside_the_document(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with RunningArchive(tmp_path_factory.mktemp("generated")) as web:
        store_example(web)
        fuzzer = Fuzzer(web.root_url, f"{web.dicomweb_url}/openapi.json", restore=lambda: store_example(web))
        fuzzer.run(300)
        assert fuzzer.requests >= 300
        assert fuzzer.failures == []
