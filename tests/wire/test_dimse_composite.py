"""C-MOVE and C-GET of instances and frames by SOP Instance UID, and C-GET without bulk data (PS3.4 Y, Z)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragmented_frames
from pydicom.filereader import read_dataset
from pynetdicom import AE, build_role, evt

from pacs.dicom.transfer_syntax import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    RLE_LOSSLESS,
)
from pacs.dicom.uids import new_uid
from tests import builders
from tests.builders import CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE
from tests.server import Server, dcmtk_environment, free_port
from tests.wire.clients import data_set_of, stow

MOVE, GET, WITHOUT = (f"1.2.840.10008.5.1.4.1.2.{number}" for number in ("4.2", "4.3", "5.3"))
JPEG = "1.2.840.10008.1.2.4.50"
ROWS = COLUMNS = 8
SYNTAXES = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN]


@dataclass(frozen=True)
class Got:
    """statuses: all answers'. received: data sets with their SOP Instance UIDs and transfer syntaxes."""

    statuses: list[int]
    received: list[tuple[str, str, bytes]]

    @property
    def data_set(self) -> Dataset:
        ((_, syntax, data),) = self.received
        return parsed(data, syntax)


def parsed(data: bytes, syntax: str) -> Dataset:
    return read_dataset(BytesIO(data), syntax == IMPLICIT_VR_LITTLE_ENDIAN, syntax != EXPLICIT_VR_BIG_ENDIAN)


def get(server: Server, model: str, sop_class: str, syntaxes: list[str], **keys: Any) -> Got:
    return get_all(server, model, {(sop_class, syntax): None for syntax in syntaxes}, **keys)


def get_all(server: Server, model: str, contexts: Mapping[tuple[str, str], None], **keys: Any) -> Got:
    """contexts: SOP classes and transfer syntaxes that are accepted."""
    received: list[tuple[str, str, bytes]] = []

    def take(event: Any) -> int:
        uid, syntax = event.request.AffectedSOPInstanceUID, event.context.transfer_syntax
        received.append((str(uid), str(syntax), event.request.DataSet.getvalue()))
        return 0

    ae = AE("PYNET")
    ae.add_requested_context(model, EXPLICIT_VR_LITTLE_ENDIAN)
    for sop_class, syntax in contexts:
        ae.add_requested_context(sop_class, syntax)
    roles = [build_role(sop_class, scp_role=True) for sop_class in dict.fromkeys(pair[0] for pair in contexts)]
    association = ae.associate(*("127.0.0.1", server.dimse_port), ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, take)])
    assert association.is_established
    statuses = [status.Status for status, _ in association.send_c_get(identifier(**keys), model)]
    association.release()
    return Got(statuses, received)


def identifier(**keys: Any) -> Dataset:
    made = Dataset()
    for keyword, value in {"QueryRetrieveLevel": "FRAME", **keys}.items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def pixels(frame: int) -> bytes:
    return bytes([frame]) * (2 * ROWS * COLUMNS)


def multiframe(frames: int = 5, **changes: Any) -> tuple[str, bytes]:
    """An enhanced CT whose frames, and what is said of each, begin with the frame's number."""
    uid = new_uid()
    groups = [
        {"FrameContentSequence": [{"FrameLabel": f"frame {n}", "FrameComments": f"Größe {n}"}]}
        for n in range(1, frames + 1)
    ]
    attributes = {
        "SOPClassUID": ENHANCED_CT_IMAGE_STORAGE,
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "Müller^Jürgen",
        "PixelData": b"".join(map(pixels, range(1, frames + 1))),
        "PerFrameFunctionalGroupsSequence": groups,
        "FrameTimeVector": [0, *range(10, 10 * frames, 10)],
        "SliceVector": list(range(1, frames + 1)),
        "RepresentativeFrameNumber": 2,
        **changes,
    }
    return uid, builders.ct(None, None, uid, rows=ROWS, columns=COLUMNS, frames=frames, **attributes)


def store(server: Server, *files: bytes) -> None:
    assert stow(server, files).status_code in (200, 202)


def frames_of(data_set: Dataset) -> list[int]:
    length = 2 * ROWS * COLUMNS
    data = data_set.PixelData
    found = [data[start] for start in range(0, len(data), length)]
    assert data == b"".join(map(pixels, found))
    return found


# -- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("syntax", "sent"),
    [
        (EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN),
        (IMPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
        (EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN),
        (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN),
    ],
)
def test_frames_come_as_an_instance_of_their_own(archive: Server, syntax: str, sent: str) -> None:
    uid, file = multiframe(transfer_syntax=syntax)
    store(archive, file)
    got = get(
        *(archive, GET, ENHANCED_CT_IMAGE_STORAGE, [*SYNTAXES, syntax]), SOPInstanceUID=uid, SimpleFrameList=[2, 3, 5]
    )
    assert got.statuses[-1] == 0
    ((new, received_in, _),) = got.received
    assert received_in == sent
    found, original = got.data_set, dcmread(BytesIO(file))
    assert new != uid
    assert found.SOPInstanceUID == new
    assert (found.SOPClassUID, found.NumberOfFrames) == (ENHANCED_CT_IMAGE_STORAGE, 3)
    assert frames_of(found) == [2, 3, 5]
    kept = [item.FrameContentSequence[0].FrameLabel for item in found.PerFrameFunctionalGroupsSequence]
    assert kept == ["frame 2", "frame 3", "frame 5"]
    (extraction,) = found.FrameExtractionSequence
    assert (extraction.MultiFrameSourceSOPInstanceUID, list(extraction.SimpleFrameList)) == (uid, [2, 3, 5])
    (equipment,) = found.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109105"
    assert ([int(each) for each in found.FrameTimeVector], list(found.SliceVector)) == ([0, 20, 70], [2, 3, 5])
    assert "RepresentativeFrameNumber" not in found
    changed = {
        *("SOPInstanceUID", "NumberOfFrames", "PixelData", "PerFrameFunctionalGroupsSequence", "FrameTimeVector"),
        *("SliceVector", "RepresentativeFrameNumber", "FrameExtractionSequence", "ContributingEquipmentSequence"),
    }
    assert without(found, changed) == without(original, changed)
    for number, item in zip([2, 3, 5], found.PerFrameFunctionalGroupsSequence, strict=True):
        assert item == original.PerFrameFunctionalGroupsSequence[number - 1]


def test_compressed_frames_stay_as_they_are_whatever_their_fragments(archive: Server) -> None:
    fragments = [bytes([number]) * (10 + 2 * number) for number in range(8)]
    uid = new_uid()
    file = builders.encapsulated(
        fragments,
        offsets=[0, 18, 18 + 20 + 22, 18 + 20 + 22 + 24 + 26],
        transfer_syntax=JPEG,
        SOPInstanceUID=uid,
        NumberOfFrames=4,
        FrameTime=40,
        FrameIncrementPointer=["00181063"],
    )
    store(archive, file)
    original = list(generate_fragmented_frames(dcmread(BytesIO(file)).PixelData, number_of_frames=4))
    for numbers in ([1, 3], [2], [1, 2, 4]):
        got = get(archive, GET, CT_IMAGE_STORAGE, [JPEG], SOPInstanceUID=uid, SimpleFrameList=numbers)
        assert got.statuses[-1] == 0
        found = got.data_set
        frames = list(generate_fragmented_frames(found.PixelData, number_of_frames=len(numbers)))
        assert frames == [original[number - 1] for number in numbers]
        assert found.NumberOfFrames == len(numbers)
        times = [float(each) for each in found.get("FrameTimeVector", [])]
        expected = {(1, 3): (80, []), (2,): (40, []), (1, 2, 4): (None, [0, 40, 80])}[tuple(numbers)]
        assert (found.get("FrameTime"), times) == expected


def test_frames_are_made_in_what_the_peer_takes(archive: Server) -> None:
    uid, file = multiframe()
    store(archive, file)
    keys = {"SOPInstanceUID": uid, "SimpleFrameList": [4]}
    got = get(archive, GET, ENHANCED_CT_IMAGE_STORAGE, [IMPLICIT_VR_LITTLE_ENDIAN], **keys)
    assert (got.statuses[-1], frames_of(got.data_set)) == (0, [4])
    assert got.received[0][1] == IMPLICIT_VR_LITTLE_ENDIAN
    got = get(archive, GET, ENHANCED_CT_IMAGE_STORAGE, [RLE_LOSSLESS], **keys)
    assert (got.statuses[-1], got.received) == (0xA702, []), "not made"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"SimpleFrameList": [1, 5, 9]}, [1, 5]),
        ({"CalculatedFrameList": [1, 5, 2]}, [1, 3, 5]),
        ({"CalculatedFrameList": [1, 2, 1, 4, 0xFFFFFFFF, 1]}, [1, 2, 4, 5]),
        ({"TimeRange": [0.005, 0.06]}, [2, 3, 4]),
        ({"SimpleFrameList": [6, 7]}, 0xAA00),
        ({"TimeRange": [1.0, 2.0]}, 0xAA00),
        ({"SimpleFrameList": [3, 2]}, 0xAA04),
        ({"SimpleFrameList": [0, 2]}, 0xAA04),
        ({"SimpleFrameList": []}, 0xAA04),
        ({"CalculatedFrameList": [1, 5]}, 0xAA04),
        ({"CalculatedFrameList": [1, 5, 0]}, 0xAA04),
        ({"CalculatedFrameList": [1, 3, 1, 2, 4, 1]}, 0xAA04),
        ({"SimpleFrameList": [1], "CalculatedFrameList": [1, 5, 1]}, 0xAA04),
        ({}, 0xAA04),
        ({"SimpleFrameList": [1], "SOPInstanceUID": "1.2.3"}, 0xAA00),
        ({"SimpleFrameList": [1], "SOPInstanceUID": None}, 0xA900),
        ({"SimpleFrameList": [1], "SOPInstanceUID": ["1.2.3", "1.2.4"]}, 0xA900),
        ({"SimpleFrameList": [1], "QueryRetrieveLevel": "SERIES"}, 0xA900),
    ],
)
def test_lists_of_frames(archive: Server, timed: str, keys: dict[str, Any], expected: list[int] | int) -> None:
    got = get(archive, GET, ENHANCED_CT_IMAGE_STORAGE, SYNTAXES, **{"SOPInstanceUID": timed, **keys})
    if isinstance(expected, int):
        assert (got.statuses, got.received) == ([expected], [])
    else:
        assert frames_of(got.data_set) == expected
        (item,) = got.data_set.FrameExtractionSequence
        for keyword, value in keys.items():
            assert list(item[keyword].value) == value


@pytest.fixture(scope="module")
def timed(archive: Server) -> str:
    uid, file = multiframe()
    store(archive, file)
    return uid


def test_what_has_no_frames_or_no_times_is_refused(archive: Server) -> None:
    report_uid, untimed_uid, dose_uid = new_uid(), new_uid(), new_uid()
    report = builders.ct(sop_uid=report_uid, PixelData=..., Rows=..., Columns=...)
    untimed = builders.ct(sop_uid=untimed_uid, rows=8, columns=8, frames=2)
    dose = builders.ct(sop_uid=dose_uid, rows=8, columns=8, frames=2, GridFrameOffsetVector=[0, 1])
    store(archive, report, untimed, dose)
    for uid, keys, status in (
        (report_uid, {"SimpleFrameList": [1]}, 0xAA01),
        (dose_uid, {"SimpleFrameList": [1]}, 0xAA01),
        (untimed_uid, {"TimeRange": [0.0, 1.0]}, 0xAA03),
    ):
        got = get(archive, GET, CT_IMAGE_STORAGE, SYNTAXES, SOPInstanceUID=uid, **keys)
        assert got.statuses == [status]


def test_frames_of_frames_say_where_all_of_it_comes_from(archive: Server) -> None:
    earlier = {"MultiFrameSourceSOPInstanceUID": "1.2.3", "SimpleFrameList": [7, 8]}
    maker = {"Manufacturer": "Gerät", "PurposeOfReferenceCodeSequence": []}
    uid, file = multiframe(FrameExtractionSequence=[earlier], ContributingEquipmentSequence=[maker])
    store(archive, file)
    got = get(archive, GET, ENHANCED_CT_IMAGE_STORAGE, SYNTAXES, SOPInstanceUID=uid, SimpleFrameList=[1])
    sources = [item.MultiFrameSourceSOPInstanceUID for item in got.data_set.FrameExtractionSequence]
    assert sources == ["1.2.3", uid]
    makers = [item.Manufacturer for item in got.data_set.ContributingEquipmentSequence]
    assert makers == ["Gerät", "raccoon-pacs"]


def test_frames_and_instances_are_moved(archive: Server, tmp_path: Path) -> None:
    uid, file = multiframe()
    store(archive, file)
    port = free_port()
    archive.add_peer("STORESCP", port)
    command = ["/usr/bin/storescp", "-aet", "STORESCP", "-od", str(tmp_path), "-uf", str(port)]
    storescp = subprocess.Popen(command, env=dcmtk_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        ae = AE("PYNET")
        ae.add_requested_context(MOVE)
        association = ae.associate("127.0.0.1", archive.dimse_port)

        def move(destination: str, **keys: Any) -> int:
            answers = association.send_c_move(identifier(SOPInstanceUID=uid, **keys), destination, MOVE)
            return int([status.Status for status, _ in answers][-1])

        deadline = time.monotonic() + 60
        while (status := move("STORESCP", SimpleFrameList=[3])) and time.monotonic() < deadline:
            time.sleep(0.05)  # until it listens
        assert status == 0
        assert move("STORESCP", QueryRetrieveLevel="IMAGE") == 0
        assert move("NOBODY", QueryRetrieveLevel="IMAGE") == 0xA801
        association.release()
    finally:
        storescp.terminate()
        storescp.wait()
    found = {each.SOPInstanceUID: each for each in map(dcmread, tmp_path.iterdir())}
    assert len(found) == 2
    assert data_set_of(next(path.read_bytes() for path in tmp_path.iterdir() if uid in path.name)) == data_set_of(file)
    del found[uid]
    assert [frames_of(each) for each in found.values()] == [[3]]


def test_nothing_is_left_in_the_data_folder(archive: Server) -> None:
    """After those above: their files were temporary."""
    assert list((archive.data / "incoming").iterdir()) == []


# -- instances ---------------------------------------------------------------------------------------------------------


def test_instances_are_had_by_their_uids_alone(archive: Server) -> None:
    files = {uid: builders.ct(sop_uid=uid) for uid in (new_uid(), new_uid(), new_uid())}
    store(archive, *files.values())
    keys = {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": [*files, new_uid()]}
    got = get(archive, GET, CT_IMAGE_STORAGE, SYNTAXES, **keys)
    assert got.statuses[-1] == 0
    assert {uid: data for uid, _, data in got.received} == {uid: data_set_of(file) for uid, file in files.items()}


# -- without bulk data -------------------------------------------------------------------------------------------------

LEFT_OUT = {
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL", "SpectroscopyData"),
    *("EncapsulatedDocument", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
}


def without(data_set: Dataset, left_out: set[str]) -> Dataset:
    """What of a data set is sent without bulk data, or without some of it."""
    made = Dataset()
    for element in data_set:
        group, number = element.tag.group, element.tag.element
        if element.keyword in left_out or number == 0:
            continue
        if group & 0xFF01 == 0x6000 and number == 0x3000 and left_out is LEFT_OUT:
            continue
        if group & 0xFF01 == 0x5000 and number in (0x3000, 0x200C) and left_out is LEFT_OUT:
            continue
        made.add(element)
    if left_out is LEFT_OUT:
        for item in made.get("WaveformSequence", []):
            item.pop("WaveformData", None)
    return made


def test_without_bulk_data_everything_else_is_there(archive: Server) -> None:
    icon = {"Rows": 1, "Columns": 2, "BitsAllocated": 8, "SamplesPerPixel": 1, "PixelData": b"ab"}
    channel = {"WaveformSampleInterpretation": "SS", "NumberOfWaveformSamples": 2, "WaveformData": b"1234"}
    private = {"vr": "OB", "InlineBinary": "AAA="}
    overlay = {"vr": "OW", "InlineBinary": "AAA="}
    uid, file = multiframe(
        IconImageSequence=[icon],
        WaveformSequence=[channel, channel],
        SpectroscopyData=bytes(8),
        EncapsulatedDocument=b"%PDF",
        **{
            "60003000": overlay,
            "60020010": {"vr": "US", "Value": [8]},
            "00091001": private,
        },
    )
    store(archive, file)
    keys = {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": uid}
    got = get(archive, WITHOUT, ENHANCED_CT_IMAGE_STORAGE, SYNTAXES, **keys)
    assert (got.statuses[-1], got.received[0][0]) == (0, uid)
    found = got.data_set
    assert found == without(dcmread(BytesIO(file)), LEFT_OUT)
    assert found.IconImageSequence[0].PixelData == b"ab"
    assert [item.NumberOfWaveformSamples for item in found.WaveformSequence] == [2, 2]
    assert (0x6002, 0x0010) in found
    assert get(archive, WITHOUT, ENHANCED_CT_IMAGE_STORAGE, SYNTAXES, SOPInstanceUID=uid).statuses == [0xA900]


@pytest.fixture(scope="module")
def real(archive: Server) -> list[tuple[Path, str, Dataset]]:
    found = []
    for path, syntax in builders.real_files():
        data_set = dcmread(path, force=True)
        if (
            data_set.get("SOPInstanceUID")
            and data_set.get("StudyInstanceUID")
            and stow(archive, [path.read_bytes()]).ok
        ):
            found.append((path, syntax, data_set))
    assert len(found) > 60
    return found


def test_real_files_without_their_bulk_data(archive: Server, real: list[tuple[Path, str, Dataset]]) -> None:
    # Of variants of one instance the first is stored.
    originals = {str(original.SOPInstanceUID): (path, syntax, original) for path, syntax, original in reversed(real)}
    contexts = {(str(original.SOPClassUID), syntax): None for _, syntax, original in originals.values()}
    contexts |= {(sop_class, EXPLICIT_VR_LITTLE_ENDIAN): None for sop_class, _ in contexts}
    assert len(contexts) <= 127
    keys = {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": list(originals)}
    got = get_all(archive, WITHOUT, contexts, **keys)
    assert got.statuses[-1] == 0
    assert {uid for uid, _, _ in got.received} == set(originals)
    for uid, syntax, data in got.received:
        path, _, original = originals[uid]
        expected = without(original, LEFT_OUT)
        expected.pop((0x0008, 0x0001), None)  # length to end
        assert as_text(parsed(data, syntax)) == as_text(expected), path.name
    assert len(originals) > 40


def as_text(data_set: Dataset) -> str:
    """All elements but those that pydicom cannot make sense of."""
    text: str = data_set.to_json(suppress_invalid_tags=True)
    return text
