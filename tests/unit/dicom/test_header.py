"""Headers of whole files: identity, errors, files that lack what a Part 10 file has, deflated ones."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from pacs.dicom import file_meta, uids
from pacs.dicom.encode import encode_data_set
from pacs.dicom.file_meta import FileMeta
from pacs.dicom.header import parse_data_set, read_header
from pacs.dicom.layout import Span
from pacs.dicom.model import Header, Target
from pacs.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from pacs.errors import InvalidValue, MissingAttribute, MissingValue, NotStorable, Rejected, Unreadable
from tests import builders

NATIVE = [
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
]
CT = builders.CT_IMAGE_STORAGE


@pytest.fixture
def header(tmp_path: Path) -> Any:
    """Writes bytes to a file and reads its header."""

    def read(data: bytes, **options: Any) -> Header:
        path = tmp_path / "file"
        path.write_bytes(data)
        return read_header(path, **options)

    return read


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_header_tells_identity_attributes_and_frames(header: Any, syntax: str) -> None:
    data = builders.ct("1.2", "1.2.3", "1.2.3.4", frames=3, transfer_syntax=syntax, PatientName="Æ^Ø=山田")
    found = header(data)
    assert found.target == Target("1.2", "1.2.3", "1.2.3.4")
    assert (found.sop_class_uid, found.transfer_syntax_uid) == (CT, syntax)
    assert data[found.data_set_offset :] == builders.data_set_of(data)
    assert found.attributes["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Æ^Ø", "Ideographic": "山田"}]}
    assert found.attributes["00080005"]["Value"] == ["ISO_IR 192"]
    assert found.attributes["00281052"] == {"vr": "DS", "Value": [-1024]}
    assert not any(tag.startswith("0002") for tag in found.attributes)
    pixels = found.layout.pixels
    assert (pixels.number_of_frames, pixels.frame_length, pixels.encapsulated) == (3, 64 * 64 * 2, False)
    assert pixels.value.length == 3 * 64 * 64 * 2
    if syntax != DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        assert pixels.value.offset + pixels.value.length == len(data)
    assert orjson.loads(found.json) == found.attributes


def test_deflated_offsets_count_from_the_inflated_data_set(header: Any) -> None:
    data = builders.ct(transfer_syntax=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    found = header(data)
    inflated = zlib.decompressobj(-15).decompress(data[found.data_set_offset :])
    span = found.layout.pixels.value
    assert found.layout.deflated
    assert inflated[span.offset : span.offset + span.length] == builders.noise(64 * 64 * 2)


def test_a_deflated_bomb_is_refused(header: Any) -> None:
    meta = file_meta.encode(FileMeta(CT, "1.2", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))
    bomb = zlib.compressobj(9, wbits=-15)
    data = meta + b"".join(bomb.compress(bytes(1 << 20)) for _ in range(300)) + bomb.flush()
    with pytest.raises(Unreadable, match="inflated"):
        header(data)
    with pytest.raises(Unreadable, match="longer than 1000 bytes"):
        header(builders.ct(transfer_syntax=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN), max_inflated_bytes=1000)


def test_a_deflated_data_set_of_many_megabytes_is_read_through_a_file(header: Any, tmp_path: Path) -> None:
    data = builders.ct(size_bytes=30 << 20, columns=512, transfer_syntax=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    assert header(data).layout.pixels.value.length > 29 << 20
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("cut", [1, 100, 4000])
def test_a_deflated_data_set_that_ends_early_is_refused(header: Any, cut: int) -> None:
    with pytest.raises(Unreadable):
        header(builders.ct(transfer_syntax=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)[: -cut - 2])


@pytest.mark.parametrize("syntax", NATIVE[:3])
def test_a_bare_data_set_is_recognised(header: Any, syntax: str) -> None:
    found = header(builders.data_set_of(builders.ct(transfer_syntax=syntax)))
    assert (found.transfer_syntax_uid, found.data_set_offset) == (syntax, 0)


def test_the_fallback_says_the_transfer_syntax_of_a_bare_data_set(header: Any) -> None:
    jpeg = "1.2.840.10008.1.2.4.50"
    data = builders.data_set_of(builders.encapsulated([b"\xff\xd8\xff\xd9"], transfer_syntax=jpeg))
    assert header(data, fallback=FileMeta(CT, "1.2", jpeg)).transfer_syntax_uid == jpeg


def test_file_meta_without_transfer_syntax_or_preamble_is_understood(header: Any) -> None:
    bare = builders.data_set_of(builders.ct())
    meta = file_meta.encode(FileMeta(CT, "1.2", ""))
    assert header(meta + bare).transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    assert header(meta[132:] + bare).data_set_offset == len(meta) - 132
    assert header(meta[:132] + bare).data_set_offset == 132


@pytest.mark.parametrize("syntax", ["1.2.826.0.1.3680043.2.1143.9", "1.2.840.113619.5.2"])
def test_a_private_transfer_syntax_is_read_by_what_the_bytes_look_like(header: Any, syntax: str) -> None:
    for encoding in (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN):
        data = builders.data_set_of(builders.ct(transfer_syntax=encoding))
        found = header(file_meta.encode(FileMeta(CT, "1.2", syntax)) + data)
        assert found.transfer_syntax_uid == syntax
        assert found.attributes["00080060"] == {"vr": "CS", "Value": ["CT"]}


@pytest.mark.parametrize(("stated", "true"), [NATIVE[:2], NATIVE[1::-1]])
def test_explicit_and_implicit_mixed_up_are_read_all_the_same(header: Any, stated: str, true: str) -> None:
    data = builders.data_set_of(builders.ct(transfer_syntax=true))
    found = header(file_meta.encode(FileMeta(CT, "1.2", stated)) + data)
    assert found.transfer_syntax_uid == stated
    assert found.attributes["00280010"] == {"vr": "US", "Value": [64]}


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_uids_that_identify_must_be_there(header: Any, keyword: str) -> None:
    with pytest.raises(MissingAttribute, match="is missing"):
        header(builders.ct(**{keyword: ...}))
    with pytest.raises(MissingValue, match="is empty"):
        header(builders.ct(**{keyword: None}))


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2/3", "1.2 3", "1.2\n3", "1." * 65, "1.2\\1.3", "..", "1.é"])
def test_what_cannot_be_a_uid_is_refused(header: Any, uid: str) -> None:
    with pytest.raises(InvalidValue):
        header(builders.ct(study_uid=uid))


@pytest.mark.parametrize("uid", ["1.02.003", "1." * 60 + "1", "1.2.3 ", "1.2.3\0"])
def test_unusual_uids_are_taken_and_padding_stripped(header: Any, uid: str) -> None:
    assert header(builders.ct(study_uid=uid)).target.study_uid == uid.rstrip(" \0")


def test_errors_carry_the_uids_that_could_be_read(header: Any) -> None:
    with pytest.raises(MissingAttribute) as missing:
        header(builders.ct(sop_uid="1.2.3.4", StudyInstanceUID=...))
    assert (missing.value.sop_class_uid, missing.value.sop_uid) == (CT, "1.2.3.4")
    with pytest.raises(Unreadable) as cut:
        header(builders.ct(sop_uid="1.2.3.4")[:-1])
    assert (cut.value.sop_class_uid, cut.value.sop_uid) == (CT, "1.2.3.4")
    with pytest.raises(Unreadable) as garbage:
        header(b"\xff" * 100, fallback=FileMeta(CT, "1.2.9", ""))
    assert (garbage.value.sop_class_uid, garbage.value.sop_uid) == (CT, "1.2.9")


def test_derived_uids_are_the_same_each_time_and_part_of_the_attributes(header: Any) -> None:
    data = builders.ct(sop_uid="1.2.3.4", StudyInstanceUID=..., SeriesInstanceUID=None)
    first, second = header(data, derive_uids=True), header(data, derive_uids=True)
    assert first.target == second.target
    assert first.target.study_uid.startswith("2.25.")
    assert first.target.study_uid != first.target.series_uid
    assert len(first.target.study_uid) <= 64
    assert first.attributes["0020000D"]["Value"] == [first.target.study_uid]
    assert first.attributes["0020000E"]["Value"] == [first.target.series_uid]
    assert list(first.attributes) == sorted(first.attributes)


def test_sop_uids_fall_back_to_file_meta_then_to_what_the_caller_knows(header: Any) -> None:
    data = builders.data_set_of(builders.ct(SOPClassUID=..., SOPInstanceUID=...))
    known = FileMeta(CT, "1.2.9", EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(MissingAttribute):
        header(data, fallback=known)
    assert header(data, fallback=known, derive_uids=True).target.sop_uid == "1.2.9"
    with_meta = file_meta.encode(FileMeta(CT, "1.2.8", EXPLICIT_VR_LITTLE_ENDIAN)) + data
    assert header(with_meta, fallback=known, derive_uids=True).target.sop_uid == "1.2.8"


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.1.3.10",
        "1.2.840.10008.1.1",
        "1.2.840.10008.1.20.1",
        "1.2.840.10008.3.1.2.3.3",
        "1.2.840.10008.5.1.4.1.2.2.1",
        "1.2.840.10008.5.1.4.34.6.1",
    ],
)
def test_classes_that_are_not_stored_are_refused(header: Any, uid: str) -> None:
    with pytest.raises(NotStorable):
        header(builders.ct(SOPClassUID=uid))


@pytest.mark.parametrize("uid", ["1.3.12.2.1107.5.9.1", "1.2.840.10008.5.1.4.34.7", "1.2.840.10008.5.1.1.30"])
def test_private_and_rare_storage_classes_are_taken(header: Any, uid: str) -> None:
    assert header(builders.ct(SOPClassUID=uid)).sop_class_uid == uid


def test_the_media_directory_is_not_storable(header: Any) -> None:
    path = next(path for path, _ in builders.real_files() if path.name == "DICOMDIR")
    with pytest.raises(NotStorable):
        read_header(path, derive_uids=True)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"x",
        b"<html><body>404</body></html>",
        b"\0" * 5000,
        b"\xff" * 5000,
        random.Random(1).randbytes(4096),
        b"%PDF-1.4\n" * 99,
    ],
)
def test_garbage_is_refused(header: Any, garbage: bytes) -> None:
    with pytest.raises(Rejected):
        header(garbage)


def test_every_truncation_is_refused_except_between_elements(header: Any) -> None:
    data = builders.ct("1.2", "1.2.3", "1.2.3.4", rows=2, columns=2, RequestAttributesSequence=[{"StudyID": "9"}])
    refused = 0
    for length in range(len(data)):
        try:
            header(data[:length])
        except Rejected:
            refused += 1
    # Only the few between the last UID and pixel data could pass for whole.
    assert refused > len(data) - 20


@pytest.mark.parametrize("padding", [b"\0" * 3, b"\0" * 8, b"\0" * 2000])
@pytest.mark.parametrize("syntax", NATIVE[:3])
def test_zeros_after_the_last_element_are_tolerated(header: Any, syntax: str, padding: bytes) -> None:
    assert header(builders.ct(transfer_syntax=syntax, PixelData=...) + padding).attributes["00281053"]


def test_bulk_data_are_left_in_the_file(header: Any) -> None:
    data = builders.ct(
        EncapsulatedDocument=b"%PDF" * 300,
        ICCProfile=b"small",
        WaveformSequence=[{"WaveformData": b"ab"}, {"WaveformData": b"wave" * 600}],
    )
    found = header(data)
    assert found.attributes["00420011"] == {"vr": "OB", "BulkDataURI": "00420011"}
    assert found.attributes["00282000"]["InlineBinary"] == "c21hbGwA"
    first, second = found.attributes["54000100"]["Value"]
    assert first["54001010"]["InlineBinary"] == "YWI="
    assert second["54001010"] == {"vr": "OW", "BulkDataURI": "54000100/2/54001010"}
    assert found.attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": "7FE00010"}
    for path, expected in (("00420011", b"%PDF" * 300), ("54000100/2/54001010", b"wave" * 600)):
        span = found.layout.bulk[path]
        assert data[span.offset : span.offset + span.length] == expected
    assert found.layout.bulk["7FE00010"] == found.layout.pixels.value


def test_any_value_over_a_megabyte_is_bulk_data(header: Any) -> None:
    data = builders.ct(TextValue="x" * (1 << 20) + "yz")
    found = header(data)
    assert found.attributes["0040A160"] == {"vr": "UT", "BulkDataURI": "0040A160"}
    assert found.layout.bulk["0040A160"].length == (1 << 20) + 2


def test_pixel_data_are_bulk_data_however_small(header: Any) -> None:
    found = header(builders.ct(rows=1, columns=1))
    assert found.attributes["7FE00010"] == {"vr": "OW", "BulkDataURI": "7FE00010"}
    assert found.layout.pixels.value == Span(found.layout.bulk["7FE00010"].offset, 2)


def test_an_identifier_keeps_empty_elements_and_keys_that_are_no_values() -> None:
    keys = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00080020": {"vr": "DA", "Value": ["20200101-"]},
        "00080061": {"vr": "CS"},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "J*^é?"}]},
        "00200013": {"vr": "IS", "Value": ["1-5"]},
        "00281050": {"vr": "DS", "Value": ["*"]},
        "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH"}}]},
        "00091001": {"vr": "LO", "Value": ["private"]},
        "00090010": {"vr": "LO", "Value": ["CREATOR"]},
    }
    expected = dict(sorted({**keys, "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}.items()))
    for syntax in NATIVE[1:3]:
        data = encode_data_set(keys, syntax, character_set="ISO_IR 100")
        assert b"\xe9" in data
        assert parse_data_set(data, syntax) == expected
    implicit = parse_data_set(encode_data_set(keys, NATIVE[0], character_set="ISO_IR 100"), NATIVE[0])
    assert implicit["00100010"] == keys["00100010"]
    assert implicit["00091001"] == {"vr": "UN", "InlineBinary": "cHJpdmF0ZSA="}
    assert parse_data_set(b"", NATIVE[0]) == {}


def test_uid_helpers() -> None:
    assert uids.is_possible(uids.new_uid())
    assert uids.is_possible(uids.IMPLEMENTATION_CLASS_UID)
    assert len(uids.IMPLEMENTATION_CLASS_UID) <= 64
    assert len(uids.IMPLEMENTATION_VERSION_NAME) <= 16
    assert uids.derived_uid("1.2", "study") != uids.derived_uid("1.3", "study")
