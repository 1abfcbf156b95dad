"""The table of ``tests/matching_table.py`` asked over the wire: C-FIND and QIDO-RS must agree with every row."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
from pynetdicom.association import Association

from tests.matching_table import MALFORMED, ROWS, Row, stored_instances
from tests.server import Server
from tests.wire import clients

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
_LONG_VRS = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT"}
_BINARY = {"US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "FL": "<f", "FD": "<d"}


@pytest.fixture(scope="module")
def full(archive: Server) -> Server:
    """An archive that holds the instances of all rows."""
    parts = [part for _, part in stored_instances()]
    for begin in range(0, len(parts), 100):
        response = clients.stow(archive, parts[begin : begin + 100])
        assert response.status_code == 200, response.text[:2000]
    return archive


@pytest.fixture(scope="module")
def finder(full: Server) -> Iterator[Association]:
    with clients.association(full, {PATIENT_ROOT_FIND: [clients.EXPLICIT_LITTLE]}) as opened:
        yield opened


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        yield opened


def _named(row: Row) -> str:
    return f"{row.number} {row.id}"


def test_the_table_is_as_large_as_it_should_be() -> None:
    assert sum(row.dimse for row in ROWS) >= 150
    assert sum(row.qido for row in ROWS) >= 150
    assert {row.expected for row in ROWS} == {True, False}


@pytest.mark.parametrize("row", [row for row in ROWS if row.qido], ids=_named)
def test_qido_agrees(full: Server, session: requests.Session, row: Row) -> None:
    url = f"{full.dicomweb_url}/{row.qido_path()}"
    response = session.get(url, params=row.qido_parameters(), timeout=clients.TIMEOUT_S)
    assert response.status_code in (200, 204), response.text
    found = len(response.json()) if response.status_code == 200 else 0
    assert bool(found) == row.expected, f"{row.qido_parameters()}: {found} rows"
    # A key that is not understood is ignored with a warning, and then everything matches.
    warnings = response.headers.get("Warning", "")
    assert not warnings or ("additional results" in warnings and warnings.count("299 http") == 1), warnings


@pytest.mark.parametrize("row", [row for row in ROWS if row.dimse], ids=_named)
def test_c_find_agrees(full: Server, finder: Association, row: Row) -> None:
    identifier = _encode(row.identifier())
    status, found = clients.c_find_bytes(finder, identifier, PATIENT_ROOT_FIND)
    assert status == 0x0000
    assert bool(found) == row.expected, f"{row.identifier()}: {found} answers"


@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_qido_refuses_a_malformed_value_and_names_its_key(
    full: Server, session: requests.Session, name: str, value: str
) -> None:
    response = session.get(f"{full.dicomweb_url}/instances", params={name: value}, timeout=clients.TIMEOUT_S)
    assert response.status_code == 400, f"{response.status_code} {response.text[:200]}"
    assert response.headers["Content-Type"].startswith("application/problem+json")
    assert name in response.text


def _encode(data_set: Mapping[str, Any]) -> bytes:
    """DICOM JSON to Explicit VR Little Endian, text in UTF-8, not by the encoder that is under test."""
    return b"".join(_element(tag, attribute) for tag, attribute in sorted(data_set.items()))


def _element(tag: str, attribute: Mapping[str, Any]) -> bytes:
    vr, values = attribute["vr"], attribute.get("Value", [])
    data = _value(vr, values)
    head = struct.pack("<HH2s", int(tag[:4], 16), int(tag[4:], 16), vr.encode())
    length = struct.pack("<HI", 0, len(data)) if vr in _LONG_VRS else struct.pack("<H", len(data))
    return head + length + data


def _value(vr: str, values: list[Any]) -> bytes:
    if vr == "SQ":
        items = [_encode(item) for item in values]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if vr in _BINARY:
        return b"".join(struct.pack(_BINARY[vr], value) for value in values)
    text = "\\".join(_person_name(value) if vr == "PN" else str(value) for value in values).encode()
    return text + (b"\0" if vr == "UI" else b" ") * (len(text) % 2)


def _person_name(value: Any) -> str:
    groups = [value.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return "=".join(groups).rstrip("=")
