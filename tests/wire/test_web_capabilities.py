"""Capabilities (PS3.18 8.9) over real HTTP, and the conformance statement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests

from pacs.dicom import performed_step, transfer_syntax
from pacs.dicom.attributes import ALL
from pacs.dimse.models import MODELS
from pacs.dimse.mpps import RETRIEVE
from pacs.dimse.worklist import MODALITY_WORKLIST
from tests.server import Server
from tests.unit.web.running import RunningArchive

WADL = "{http://wadl.dev.java.net/2009/02}"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("capabilities")) as running:
        yield running


def options(url: str, accept: str = "", **headers: str) -> requests.Response:
    return requests.options(url, headers={"Accept": accept, **headers}, timeout=60)


@pytest.mark.parametrize("path", ["/dicom-web", "/dicom-web/", "/"])
def test_options_of_the_root_answers_capabilities(web: RunningArchive, path: str) -> None:
    response = options(web.root_url + path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/vnd.sun.wadl+xml"
    assert "GET" in response.headers["Allow"]
    root = ElementTree.fromstring(response.content)
    (resources,) = root.findall(f"{WADL}resources")
    assert resources.attrib["base"] == f"{web.dicomweb_url}/"
    paths = {each.attrib["path"]: each for each in resources.findall(f"{WADL}resource")}
    study = paths["studies/{study}"]
    assert [each.attrib["name"] for each in study.findall(f"{WADL}param")] == ["study"]
    methods = {each.attrib["name"]: each for each in study.findall(f"{WADL}method")}
    assert set(methods) == {"GET", "POST", "DELETE"}
    media_types = {each.attrib["mediaType"] for each in methods["GET"].iter(f"{WADL}representation")}
    assert {"application/dicom", "application/zip"} <= media_types


def test_json_when_it_is_asked(web: RunningArchive) -> None:
    for response in (
        options(web.dicomweb_url, "application/json"),
        requests.get(f"{web.dicomweb_url}/capabilities?accept=application/json", timeout=60),
    ):
        assert response.headers["Content-Type"].startswith("application/json")
        answer = response.json()
        assert answer["limits"]["queryRowsMax"] == 5000
        assert "1.2.840.10008.1.2.1" in {each["uid"] for each in answer["storedTransferSyntaxes"]}
        assert "/studies/{study}" in {each["path"] for each in answer["resources"]}


def test_other_forms_are_406(web: RunningArchive) -> None:
    response = options(web.dicomweb_url, "text/plain")
    assert response.status_code == 406
    assert "application/vnd.sun.wadl+xml" in response.json()["available"]


def test_options_of_a_resource_says_its_methods(web: RunningArchive) -> None:
    response = options(f"{web.dicomweb_url}/studies/1.2")
    assert response.status_code == 204
    assert response.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    assert options(f"{web.dicomweb_url}/studies").headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert options(f"{web.dicomweb_url}/nothing/here").status_code == 404


def test_what_is_switched_off_is_not_offered(tmp_path: Path) -> None:
    with RunningArchive(tmp_path, delete=None) as web:
        offered = options(web.dicomweb_url).content
        assert b'id="storeStudy"' in offered
        assert b'id="deleteStudy"' not in offered
        assert "DELETE" not in options(f"{web.dicomweb_url}/studies/1").headers["Allow"]
        # Of images: an order can be taken back.
        assert "DELETE" in options(f"{web.dicomweb_url}/mwlitems/1/S").headers["Allow"]


def test_a_page_from_elsewhere_may_not_delete(tmp_path: Path) -> None:
    with RunningArchive(tmp_path, cors_origins=["*"]) as web:
        asked = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "DELETE"}
        response = options(f"{web.dicomweb_url}/studies/1", **asked)
        assert "DELETE" not in response.headers["Access-Control-Allow-Methods"]


def test_an_archive_at_the_servers_root_answers_there(tmp_path: Path) -> None:
    with RunningArchive(tmp_path, api_root="") as web:
        response = options(web.root_url)
        assert response.status_code == 200
        assert f'base="{web.root_url}/"'.encode() in response.content
        assert requests.get(f"{web.root_url}/openapi.json", timeout=60).status_code == 200


# --- conformance statement


@pytest.fixture
def stopped(tmp_path: Path) -> Server:
    return Server(tmp_path, {"QIDO_MAX_LIMIT": "1234", "DICOMWEB_API": "rs"}, ae_title="MYARCHIVE")


def test_the_statement_is_that_of_the_running_configuration(stopped: Server) -> None:
    done = stopped.pacs("conformance")
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "| AE title | MYARCHIVE |",
        "| Rows of a search, at most | 1234 |",
        f"| {stopped.dimse_port} |",
        "/rs",
    ):
        assert text in done.stdout
    stopped.env.update({"ENABLE_DIMSE": "false", "ALLOW_DELETE": "false"})
    without = stopped.pacs("conformance").stdout
    assert "| DELETE | /studies/{study} |" in done.stdout
    assert "| DELETE | /studies/{study} |" not in without
    assert "DIMSE is switched off" in without


def test_the_statement_lists_what_the_code_uses(stopped: Server) -> None:
    text = stopped.pacs("conformance").stdout
    services = (*MODELS, MODALITY_WORKLIST, performed_step.SOP_CLASS, RETRIEVE)
    for uid in (*(syntax.uid for syntax in transfer_syntax.ALL), *services, "1.2.840.10008.5.1.4.1.1.2"):
        assert f"| {uid} |" in text, uid
    for attribute in ALL:
        assert f"| {attribute.keyword} |" in text


def test_markdown_tables_have_as_many_cells_as_their_heads(stopped: Server) -> None:
    head = 0
    for line in stopped.pacs("conformance").stdout.splitlines():
        cells = len(re.findall(r"\|", line))
        if not line.startswith("|"):
            head = 0
        elif head == 0:
            head = cells
        assert head == 0 or cells == head, line


def test_html_holds_the_same_rows(stopped: Server) -> None:
    page = stopped.pacs("conformance", "--format", "html").stdout

    class Counting(HTMLParser):
        rows = 0
        stack: list[str] = []  # noqa: RUF012 - one page is read

        def handle_starttag(self, tag: str, attributes: object) -> None:
            self.rows += tag == "tr"
            if tag != "meta":
                self.stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.stack.pop() == tag

    reader = Counting()
    reader.feed(page)
    lines = stopped.pacs("conformance").stdout.splitlines()
    assert reader.rows == sum(line.startswith("|") and not line.startswith("| ---") for line in lines)
    assert reader.stack == []
