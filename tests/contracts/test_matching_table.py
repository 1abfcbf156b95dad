"""The matching table against the reference matcher and the index engines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime

import orjson
import pytest

from pacs.dicom import keys
from pacs.dicom.encode import encode_data_set
from pacs.dicom.header import parse_data_set, read_header
from pacs.dicom.matching import Matcher, TagPath, UidList, matches_all
from pacs.dicom.model import BlobRef, Caller, Header, InstanceRecord
from pacs.errors import Invalid
from pacs.index.base import Index, Query
from pacs.index.mongo import MongoIndex
from pacs.index.sqlite import SqliteIndex
from tests.matching_table import MALFORMED, ROWS, Row
from tests.mongod import replica_set

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Header]:
    folder = tmp_path_factory.mktemp("rows")
    found = {}
    for row in ROWS:
        path = folder / f"{row.number}.dcm"
        path.write_bytes(row.part10())
        found[row.number] = read_header(path)
    return found


@pytest.fixture(scope="module", params=["sqlite", "mongo"])
def index(
    request: pytest.FixtureRequest, headers: dict[int, Header], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Index]:
    with ExitStack() as opened:
        if request.param == "sqlite":
            index: Index = SqliteIndex(tmp_path_factory.mktemp("index") / "index.sqlite")
        else:
            index = MongoIndex(opened.enter_context(replica_set()), "table")
        opened.callback(index.close)
        caller = Caller("TABLE", "127.0.0.1", "cli")
        index.put(
            [
                InstanceRecord(header, BlobRef(str(number), 1, str(number)), datetime.now(UTC), caller)
                for number, header in headers.items()
            ]
        )
        yield index


def asked_by_web(row: Row) -> Mapping[TagPath, Matcher]:
    parameters: dict[str, list[str]] = {}
    for name, value in row.qido_parameters():
        if name != "fuzzymatching":
            parameters.setdefault(name, []).append(value)
    found = [keys.from_parameter(name, values, fuzzy=row.fuzzy) for name, values in parameters.items()]
    return keys.combine(dict(found))


def asked_by_dimse(row: Row, transfer_syntax: str) -> Mapping[TagPath, Matcher]:
    data_set = encode_data_set(row.identifier(), transfer_syntax)
    return keys.from_identifier(parse_data_set(data_set, transfer_syntax)).matchers


def asked(row: Row) -> Iterator[Mapping[TagPath, Matcher]]:
    if row.qido:
        yield asked_by_web(row)
    if row.dimse:
        yield asked_by_dimse(row, EXPLICIT)
        if not any("0009" in name for name, _ in row.keys):  # a private VR needs explicit VR
            yield asked_by_dimse(row, IMPLICIT)


def test_the_table_is_large_and_its_names_are_unique() -> None:
    assert len(ROWS) >= 180
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert {row.level.name for row in ROWS} == {"PATIENT", "STUDY", "SERIES", "IMAGE"}
    assert 0.3 < sum(row.expected for row in ROWS) / len(ROWS) < 0.8


@pytest.mark.parametrize("row", [row for row in ROWS if not row.counted], ids=lambda row: row.id)
def test_the_reference_agrees_with_the_table(row: Row, headers: dict[int, Header]) -> None:
    for matchers in asked(row):
        assert matches_all(matchers, headers[row.number].attributes) is row.expected, matchers


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_engine_agrees_with_the_table(row: Row, index: Index) -> None:
    for matchers in asked(row):
        own = {("0020000D",): UidList((row.study_uid,)), **matchers}
        assert bool(index.search(Query(row.level, own)).rows) is row.expected, matchers


@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_a_malformed_key_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        keys.from_parameter(name, [value])
    assert refused.value.subject == name
    assert not re.search(r"Traceback|/", str(refused.value))


def test_rows_answer_as_json(index: Index) -> None:
    assert all(orjson.loads(row) == {} for row in index.search(Query(ROWS[0].level, {}, limit=5)).rows)
