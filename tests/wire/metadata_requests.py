"""STOW-RS requests of metadata and bulk data, and WADO-RS answers taken apart: what the tests of both forms share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
import requests

from pacs.dicom.xml_model import from_xml, to_xml
from tests.wire.clients import TIMEOUT_S

JSON, XML = "application/dicom+json", "application/dicom+xml"
XML_PARTS = f'multipart/related; type="{XML}"'
BOUNDARY = "metadata-boundary-3f1c"

Part = tuple[Mapping[str, str], bytes]


def body_of(parts: Iterable[Part]) -> bytes:
    pieces = []
    for headers, content in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        pieces.append(f"--{BOUNDARY}\r\n{lines}\r\n".encode() + content + b"\r\n")
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()


def metadata_parts(instances: Iterable[Mapping[str, Any]], kind: str) -> Iterator[Part]:
    """One JSON array, or one XML document an instance."""
    if kind == JSON:
        yield {"Content-Type": JSON}, orjson.dumps(list(instances))
        return
    for instance in instances:
        yield {"Content-Type": XML}, to_xml(instance)


def store_metadata(
    url: str,
    instances: Iterable[Mapping[str, Any]],
    bulk: Iterable[Part] = (),
    kind: str = JSON,
    *,
    accept: str = JSON,
    body: bytes | None = None,
    **headers: str,
) -> requests.Response:
    """url: of the studies resource. bulk: (headers, content) of the parts that follow the metadata."""
    fields = {"Content-Type": f'multipart/related; type="{kind}"; boundary={BOUNDARY}', "Accept": accept, **headers}
    content = body_of([*metadata_parts(instances, kind), *bulk]) if body is None else body
    return requests.post(url, data=content, headers=fields, timeout=TIMEOUT_S)


def bulk_part(location: str, content: bytes, content_type: str = "application/octet-stream") -> Part:
    return {"Content-Type": content_type, "Content-Location": location}, content


def parts_of(response: requests.Response) -> list[tuple[dict[str, str], bytes]]:
    """(headers in lower case, content) of a multipart answer; one part when it is none."""
    content_type = response.headers["Content-Type"]
    if not content_type.startswith("multipart/"):
        return [({name.lower(): value for name, value in response.headers.items()}, response.content)]
    boundary = content_type.partition("boundary=")[2].split(";")[0].strip().strip('"')
    found = []
    for piece in (b"\r\n" + response.content).split(b"\r\n--" + boundary.encode())[1:-1]:
        head, _, content = piece.lstrip(b"\r\n").partition(b"\r\n\r\n")
        lines = (line.partition(":") for line in head.decode().split("\r\n"))
        found.append(({name.strip().lower(): value.strip() for name, _, value in lines}, content))
    return found


def metadata_of(url: str, kind: str = JSON) -> list[dict[str, Any]]:
    """Data sets of a metadata resource, asked for in JSON or XML, as DICOM JSON."""
    accept = JSON if kind == JSON else XML_PARTS
    response = requests.get(f"{url}/metadata", headers={"Accept": accept}, timeout=TIMEOUT_S)
    assert response.status_code == 200, response.text[:300]
    if kind == JSON:
        found: list[dict[str, Any]] = response.json()
        return found
    return [from_xml(content) for _, content in parts_of(response)]


def elements_of(data_set: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All elements of a data set and its items."""
    for element in data_set.values():
        yield element
        if element["vr"] == "SQ":
            for item in element.get("Value", ()):
                yield from elements_of(item)
