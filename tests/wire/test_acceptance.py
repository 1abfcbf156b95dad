"""Every DICOM file of the pydicom wheel goes in through DCMTK's storescu and comes back byte for byte.

storescu reads a file and writes it anew, so what counts as "sent" is what DCMTK's own storescp receives from it. Files
that share a SOP Instance UID go to archives of their own.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
import requests
from pydicom.filereader import read_dataset, read_file_meta_info
from pynetdicom import AE, build_role, evt

from tests.server import Server, dcmtk
from tests.wire import clients

DATA = Path(pydicom.__file__).parent / "data"

# What storescu does not send, each with its reason.
_NO_UIDS = "names no SOP Class or no SOP Instance UID that storescu finds"
_DICOMDIR = "a DICOMDIR: Media Storage Directory is not a storage SOP class"
_CUT_SHORT = "ends before its last element does: DCMTK refuses to read it"
REFUSED_BY_STORESCU = {
    "charset_files/chrSQEncoding.dcm": _NO_UIDS,
    "charset_files/chrSQEncoding1.dcm": _NO_UIDS,
    "test_files/MR_truncated.dcm": _CUT_SHORT,
    "test_files/SC_rgb_jpeg.dcm": "an element with blanks for a VR: DCMTK loses its way in it",
    "test_files/UN_sequence.dcm": _NO_UIDS,
    "test_files/dicomdirtests/DICOMDIR": _DICOMDIR,
    "test_files/dicomdirtests/DICOMDIR-bigEnd": _DICOMDIR,
    "test_files/dicomdirtests/DICOMDIR-empty.dcm": _DICOMDIR,
    "test_files/dicomdirtests/DICOMDIR-implicit": _DICOMDIR,
    "test_files/dicomdirtests/DICOMDIR-nooffset": _DICOMDIR,
    "test_files/dicomdirtests/DICOMDIR-nopatient": _DICOMDIR,
    "test_files/dicomdirtests/DICOMDIR-reordered": _DICOMDIR,
    "test_files/dicomdirtests/TINY_ALPHA/DICOMDIR": _DICOMDIR,
    "test_files/empty_charset_LEI.dcm": _NO_UIDS,
    "test_files/nested_priv_SQ.dcm": _NO_UIDS,
    "test_files/no_meta_group_length.dcm": _NO_UIDS,
    "test_files/priv_SQ.dcm": _NO_UIDS,
    "test_files/rtdose_rle.dcm": _NO_UIDS,
    "test_files/rtdose_rle_1frame.dcm": _NO_UIDS,
    "test_files/rtplan_truncated.dcm": _CUT_SHORT,
}

# What DCMTK 3.6.7's getscu cannot be sent as it is stored; pynetdicom gets these byte for byte.
COLOR_PALETTE = "1.2.840.10008.5.1.4.39.1"  # not among the storage classes that it proposes
IMPLICIT = "1.2.840.10008.1.2"  # its option +xi proposes Explicit VR Little Endian alone

# Four bytes of its codestream's header are overwritten by a sequence delimiter: no decoder gives a picture.
UNDECODABLE = {"test_files/JPEG2000-embedded-sequence-delimiter.dcm"}

GETSCU_OPTION = {
    IMPLICIT: "+xi",
    "1.2.840.10008.1.2.1": "+xe",
    "1.2.840.10008.1.2.2": "+xb",
    "1.2.840.10008.1.2.1.99": "+xd",
    "1.2.840.10008.1.2.4.50": "+xy",
    "1.2.840.10008.1.2.4.51": "+xx",
    "1.2.840.10008.1.2.4.70": "+xs",
    "1.2.840.10008.1.2.4.80": "+xt",
    "1.2.840.10008.1.2.4.81": "+xu",
    "1.2.840.10008.1.2.4.90": "+xv",
    "1.2.840.10008.1.2.4.91": "+xw",
    "1.2.840.10008.1.2.5": "+xr",
}
UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2")

PATIENT_ID, STUDY_UID, SERIES_UID, SOP_UID = "00100020", "0020000D", "0020000E", "00080018"


@dataclass(frozen=True)
class Example:
    """One file of the wheel. study_uid, series_uid: "" when the data set has none."""

    path: Path
    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str
    patient_id: str
    transfer_syntax_uid: str
    is_image: bool

    @property
    def name(self) -> str:
        return self.path.relative_to(DATA).as_posix()


@dataclass(frozen=True)
class Place:
    """Where the archive filed an instance."""

    study_uid: str
    series_uid: str

    def path(self, sop_uid: str) -> str:
        return f"/studies/{self.study_uid}/series/{self.series_uid}/instances/{sop_uid}"


@dataclass
class Batch:
    """One archive and what was sent to it. sent: data sets as they went over the wire, by SOP Instance UID."""

    server: Server
    folder: Path
    examples: list[Example]
    sent: dict[str, clients.Received]
    complaints: list[str] = field(default_factory=list)

    @cached_property
    def places(self) -> dict[str, Place]:
        """By SOP Instance UID, from C-FIND: some files have no Study or Series UID, and get one from the archive."""
        keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        rows = clients.find(self.server, "-S", "IMAGE", self.folder / "places", *keys)
        return {str(row.SOPInstanceUID): Place(str(row.StudyInstanceUID), str(row.SeriesInstanceUID)) for row in rows}

    def check(self, received: dict[str, clients.Received], way: str) -> list[str]:
        """What is missing or differs, in words."""
        problems = []
        for example in self.examples:
            sent, back = self.sent[example.sop_uid], received.get(example.sop_uid)
            if back is None:
                problems.append(f"{example.name}: not received by {way}")
            elif back.transfer_syntax_uid != sent.transfer_syntax_uid:
                problems.append(f"{example.name}: {way} gave {back.transfer_syntax_uid}")
            elif back.data_set != sent.data_set:
                problems.append(f"{example.name}: {way} gave other bytes ({_difference(sent.data_set, back.data_set)})")
        return problems


def _difference(sent: bytes, back: bytes) -> str:
    place = next((i for i, (a, b) in enumerate(zip(sent, back, strict=False)) if a != b), min(len(sent), len(back)))
    return f"{len(sent)} and {len(back)} bytes, differing from {place}"


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Batch]]:
    home = tmp_path_factory.mktemp("acceptance")
    examples = [example for example in _examples() if example.name not in REFUSED_BY_STORESCU]
    profiles = home / "storescu.cfg"
    classes = sorted({example.sop_class_uid for example in examples})
    syntaxes = sorted({example.transfer_syntax_uid for example in examples})
    clients.write_profiles(profiles, {_profile(s): {c: [s] for c in classes} for s in syntaxes})
    accepted = {sop_class: [*(s for s in syntaxes if s not in UNCOMPRESSED), *UNCOMPRESSED] for sop_class in classes}
    with contextlib.ExitStack() as stack:
        made = []
        for number, group in enumerate(_without_repeated_uids(examples)):
            folder = home / f"batch{number}"
            with clients.StoreScp(folder / "sent", accepted) as reference:
                unsent = _send(group, profiles, reference.port, reference.ae_title)
                assert not unsent, unsent
            sent = reference.received()
            assert set(sent) == {example.sop_uid for example in group}
            batch = Batch(stack.enter_context(Server(folder / "archive")), folder, group, sent)
            batch.complaints = _send(group, profiles, batch.server.dimse_port, batch.server.ae_title)
            made.append(batch)
        yield made


def _examples() -> list[Example]:
    """All files that pydicom's wheel ships with a transfer syntax in their file meta information."""
    examples = []
    for path in sorted(DATA.rglob("*")):
        if not path.is_file():
            continue
        with contextlib.suppress(Exception):  # not DICOM
            meta = read_file_meta_info(path)
            if "TransferSyntaxUID" in meta:
                examples.append(_example(path))
    return examples


def _example(path: Path) -> Example:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(path, stop_before_pixels=False, force=True)
        meta = data_set.file_meta
        return Example(
            path,
            # Some files' meta information names another instance; storescu believes the data set.
            str(data_set.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID", "")),
            str(data_set.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID", "")),
            str(data_set.get("StudyInstanceUID", "")),
            str(data_set.get("SeriesInstanceUID", "")),
            str(data_set.get("PatientID", "") or ""),
            str(meta.TransferSyntaxUID),
            "PixelData" in data_set,
        )


def _without_repeated_uids(examples: list[Example]) -> list[list[Example]]:
    groups: list[dict[str, Example]] = []
    for example in examples:
        group = next((group for group in groups if example.sop_uid not in group), None)
        if group is None:
            groups.append(group := {})
        group[example.sop_uid] = example
    return [list(group.values()) for group in groups]


def _profile(transfer_syntax_uid: str) -> str:
    return "S" + transfer_syntax_uid.replace(".", "")


def _send(examples: list[Example], profiles: Path, port: int, ae_title: str) -> list[str]:
    """One storescu a transfer syntax, which proposes nothing but that one; what was not answered 0000H."""
    by_syntax = defaultdict(list)
    for example in examples:
        by_syntax[example.transfer_syntax_uid].append(example)
    complaints = []
    for syntax, group in by_syntax.items():
        paths = [example.path for example in group]
        options = ("-v", "-nh", "-xf", profiles, _profile(syntax), "-aec", ae_title)
        run = dcmtk("storescu", *options, "127.0.0.1", str(port), *paths)
        answers = [line for line in run.stdout.splitlines() if line.startswith("I: Received Store Response")]
        if answers != ["I: Received Store Response (Success)"] * len(group):
            errors = [line for line in run.stdout.splitlines() if line[:2] in ("E:", "F:") or "Response" in line]
            complaints.append(f"{syntax}, {len(group)} files: {errors}")
    return complaints


def test_what_storescu_refuses_is_named_and_nothing_else(batches: list[Batch]) -> None:
    names = {example.name for example in _examples()}
    assert set(REFUSED_BY_STORESCU) <= names
    sent = {example.name for batch in batches for example in batch.examples}
    assert sent == names - set(REFUSED_BY_STORESCU)
    assert len(sent) > 150


def test_every_file_is_answered_with_success(batches: list[Batch]) -> None:
    assert not [complaint for batch in batches for complaint in batch.complaints]


def test_the_same_files_sent_again_are_answered_with_success(batches: list[Batch]) -> None:
    batch = batches[-1]
    profiles = batch.folder.parent / "storescu.cfg"
    assert not _send(batch.examples, profiles, batch.server.dimse_port, batch.server.ae_title)
    assert len(clients.qido(batch.server, "/instances")) == len(batch.examples)


def test_findscu_finds_every_file_at_all_four_levels(batches: list[Batch]) -> None:
    problems = []
    for number, batch in enumerate(batches):
        folder, server = batch.folder / "find", batch.server
        patients = clients.find(server, "-P", "PATIENT", folder, "PatientID", "PatientName")
        expected = {example.patient_id for example in batch.examples}
        if (ids := {str(row.PatientID or "") for row in patients}) != expected:
            problems.append(f"batch {number}: patients {sorted(ids ^ expected)}")
        studies = clients.find(server, "-S", "STUDY", folder, "StudyInstanceUID", "PatientID")
        uids = [str(row.StudyInstanceUID) for row in studies]
        if sorted(uids) != sorted({place.study_uid for place in batch.places.values()}):
            problems.append(f"batch {number}: studies {uids}")
        found = set()
        for study_uid in uids:
            for row in clients.find(
                server, "-S", "SERIES", folder, f"StudyInstanceUID={study_uid}", "SeriesInstanceUID"
            ):
                keys = (f"StudyInstanceUID={study_uid}", f"SeriesInstanceUID={row.SeriesInstanceUID}", "SOPInstanceUID")
                images = clients.find(server, "-S", "IMAGE", folder, *keys)
                found |= {(study_uid, str(row.SeriesInstanceUID), str(image.SOPInstanceUID)) for image in images}
        problems += [
            f"{example.name}: not found below its series"
            for example in batch.examples
            if (place := batch.places.get(example.sop_uid)) is None
            or (place.study_uid, place.series_uid, example.sop_uid) not in found
        ]
        if len(found) != len(batch.examples):
            problems.append(f"batch {number}: {len(found)} instances found, {len(batch.examples)} sent")
    assert not problems, "\n".join(problems)


def test_uids_that_the_file_has_are_kept_and_missing_ones_are_made(batches: list[Batch]) -> None:
    problems = []
    for batch in batches:
        for example in batch.examples:
            place = batch.places[example.sop_uid]
            if example.study_uid not in ("", place.study_uid) or example.series_uid not in ("", place.series_uid):
                problems.append(f"{example.name}: filed under {place}")
            if not place.study_uid or not place.series_uid:
                problems.append(f"{example.name}: no UID")
    assert not problems, "\n".join(problems)


def test_qido_finds_every_file_at_three_levels(batches: list[Batch]) -> None:
    problems = []
    for number, batch in enumerate(batches):
        places = batch.places.values()
        studies = [clients.value(row, STUDY_UID) for row in clients.qido(batch.server, "/studies")]
        if sorted(studies) != sorted({place.study_uid for place in places}):
            problems.append(f"batch {number}: studies {studies}")
        series = [
            (clients.value(row, STUDY_UID), clients.value(row, SERIES_UID))
            for row in clients.qido(batch.server, "/series")
        ]
        if sorted(series) != sorted({(place.study_uid, place.series_uid) for place in places}):
            problems.append(f"batch {number}: series {series}")
        for example in batch.examples:
            rows = clients.qido(batch.server, "/instances", {"SOPInstanceUID": example.sop_uid})
            place = batch.places[example.sop_uid]
            where = [(clients.value(row, STUDY_UID), clients.value(row, SERIES_UID)) for row in rows]
            if where != [(place.study_uid, place.series_uid)]:
                problems.append(f"{example.name}: /instances answered {where}")
    assert not problems, "\n".join(problems)


def test_movescu_brings_every_file_back_to_storescp_byte_for_byte(batches: list[Batch]) -> None:
    problems = []
    for batch in batches:
        classes = {example.sop_class_uid for example in batch.examples}
        syntaxes = sorted({example.transfer_syntax_uid for example in batch.examples} - set(UNCOMPRESSED))
        accepted = {sop_class: [*syntaxes, *UNCOMPRESSED] for sop_class in classes}
        with clients.StoreScp(batch.folder / "moved", accepted, "MOVEDEST") as destination:
            batch.server.add_peer("MOVEDEST", destination.port)
            for study_uid in sorted({place.study_uid for place in batch.places.values()}):
                keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study_uid}")
                options = ("-v", "-S", "-aec", batch.server.ae_title, "-aem", "MOVEDEST")
                run = dcmtk("movescu", *options, *keys, "127.0.0.1", str(batch.server.dimse_port))
                if "Received Final Move Response (Success)" not in run.stdout:
                    problems.append(f"C-MOVE of {study_uid}: {run.stdout[-400:]}")
            problems += batch.check(destination.received(), "movescu")
    assert not problems, "\n".join(problems)


def test_getscu_brings_every_file_back_byte_for_byte(batches: list[Batch]) -> None:
    problems = []
    for batch in batches:
        folder = batch.folder / "got"
        folder.mkdir()
        by_series = defaultdict(list)
        for example in batch.examples:
            if example.sop_class_uid != COLOR_PALETTE:
                by_series[batch.places[example.sop_uid], example.transfer_syntax_uid].append(example.sop_uid)
        for (place, syntax), sop_uids in by_series.items():
            # getscu proposes one encapsulated syntax at a time, so that a call gets the instances stored in it.
            keys = [
                "QueryRetrieveLevel=IMAGE",
                f"StudyInstanceUID={place.study_uid}",
                f"SeriesInstanceUID={place.series_uid}",
                "SOPInstanceUID=" + "\\".join(sop_uids),
            ]
            options = ("-v", "-S", "+B", "-od", folder, GETSCU_OPTION[syntax], "-aec", batch.server.ae_title)
            arguments = [argument for key in keys for argument in ("-k", key)]
            run = dcmtk("getscu", *options, *arguments, "127.0.0.1", str(batch.server.dimse_port))
            if run.returncode != 0:
                problems.append(f"C-GET of {sop_uids} in {syntax}: {run.stdout[-400:]}")
        received = clients.read_folder(folder)
        problems += _implicit_that_changed(batch, received)
        problems += batch.check(received | _get_by_pynetdicom(batch), "getscu")
    assert not problems, "\n".join(problems)


def _implicit_that_changed(batch: Batch, received: dict[str, clients.Received]) -> list[str]:
    """getscu gets these in Explicit VR Little Endian: the same elements, written another way."""
    problems = []
    for example in batch.examples:
        if example.transfer_syntax_uid == IMPLICIT and example.sop_class_uid != COLOR_PALETTE:
            back = received.get(example.sop_uid)
            if back is None or _elements(back) != _elements(batch.sent[example.sop_uid]):
                problems.append(f"{example.name}: getscu gave other elements")
    return problems


def _elements(received: clients.Received) -> list[tuple[str, str]]:
    is_implicit = received.transfer_syntax_uid == IMPLICIT
    data_set = read_dataset(BytesIO(received.data_set), is_implicit, True)
    return [(str(element.tag), str(element.value)) for element in data_set.iterall() if element.VR != "SQ"]


def _get_by_pynetdicom(batch: Batch) -> dict[str, clients.Received]:
    """What getscu cannot be sent as it is stored; the data sets as they came."""
    received: dict[str, clients.Received] = {}

    def take(event: evt.Event) -> int:
        request = event.request
        data_set = request.DataSet.getvalue()
        received[str(request.AffectedSOPInstanceUID)] = clients.Received(data_set, str(event.context.transfer_syntax))
        return 0x0000

    model = "1.2.840.10008.5.1.4.1.2.2.3"
    for example in batch.examples:
        if example.sop_class_uid != COLOR_PALETTE and example.transfer_syntax_uid != IMPLICIT:
            continue
        ae = AE(ae_title="GETTER")
        ae.add_requested_context(model)
        ae.add_requested_context(example.sop_class_uid, example.transfer_syntax_uid)
        opened = ae.associate(
            "127.0.0.1",
            batch.server.dimse_port,
            ae_title=batch.server.ae_title,
            ext_neg=[build_role(example.sop_class_uid, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, take)],
        )
        assert opened.is_established
        place, identifier = batch.places[example.sop_uid], pydicom.Dataset()
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.StudyInstanceUID = place.study_uid
        identifier.SeriesInstanceUID = place.series_uid
        identifier.SOPInstanceUID = example.sop_uid
        statuses = [status.Status for status, _ in opened.send_c_get(identifier, model)]
        opened.release()
        assert statuses[-1] == 0x0000, statuses
    return received


def test_wado_gives_every_study_back_byte_for_byte(batches: list[Batch]) -> None:
    problems = []
    for batch in batches:
        received = {}
        for study_uid in sorted({place.study_uid for place in batch.places.values()}):
            for part in clients.retrieve_files(batch.server, f"/studies/{study_uid}"):
                offset = clients.data_set_offset(part)
                meta = clients.file_meta_of(part)
                uid = str(meta.MediaStorageSOPInstanceUID)
                received[uid] = clients.Received(part[offset:], str(meta.TransferSyntaxUID))
        problems += batch.check(received, "WADO-RS")
    assert not problems, "\n".join(problems)


def test_wado_gives_one_instance_back_byte_for_byte(batches: list[Batch]) -> None:
    batch = batches[0]
    problems = []
    for example in batch.examples:
        (part,) = clients.retrieve_files(batch.server, batch.places[example.sop_uid].path(example.sop_uid))
        if clients.data_set_of(part) != batch.sent[example.sop_uid].data_set:
            problems.append(example.name)
    assert not problems


def test_what_comes_by_stow_goes_back_as_the_file_had_it(batches: list[Batch], fresh_archive: Server) -> None:
    examples = [example for example in batches[0].examples if example.study_uid and example.series_uid]
    files = [example.path.read_bytes() for example in examples]
    response = clients.stow(fresh_archive, files)
    answer = response.json()
    refused = [item["00081155"]["Value"][0] for item in answer.get("00081198", {}).get("Value", [])]
    # 202: some files' meta information names another instance than their data set, which is worth a warning.
    assert (response.status_code, refused) == (202, [])
    warned = [item for item in answer["00081199"]["Value"] if "00081196" in item]
    assert {item["00081155"]["Value"][0] for item in warned} == {
        example.sop_uid for example in examples if _has_other_meta(example)
    }
    problems = []
    for example, file in zip(examples, files, strict=True):
        place = Place(example.study_uid, example.series_uid)
        (part,) = clients.retrieve_files(fresh_archive, place.path(example.sop_uid))
        if clients.data_set_of(part) != clients.data_set_of(file):
            problems.append(f"{example.name}: {_difference(clients.data_set_of(file), clients.data_set_of(part))}")
    assert not problems, "\n".join(problems)


def _has_other_meta(example: Example) -> bool:
    meta = read_file_meta_info(example.path)
    return str(meta.MediaStorageSOPInstanceUID) != example.sop_uid


def test_metadata_answers_for_every_file(batches: list[Batch]) -> None:
    problems = []
    for batch in batches:
        for example, response in _get_each(batch, "/metadata", "application/dicom+json"):
            if response.status_code != 200:
                problems.append(f"{example.name}: {response.status_code} {response.text[:200]}")
                continue
            (metadata,) = response.json()
            if clients.value(metadata, SOP_UID) not in (example.sop_uid, None) or "00020010" in metadata:
                problems.append(f"{example.name}: {str(metadata)[:200]}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("resource", ["/rendered", "/thumbnail"])
def test_rendered_answers_for_every_file_and_with_a_picture_for_images(batches: list[Batch], resource: str) -> None:
    problems = []
    for batch in batches:
        for example, response in _get_each(batch, resource, "image/jpeg"):
            is_picture = response.status_code == 200 and response.content[:2] == b"\xff\xd8"
            is_wrong = response.status_code >= 500
            if example.name in UNDECODABLE:
                is_wrong |= response.status_code < 400
            elif example.is_image:  # other objects may be drawn, or refused
                is_wrong |= not is_picture
            if is_wrong:
                problems.append(f"{example.name}: {response.status_code} {response.content[:200]!r}")
    assert not problems, "\n".join(problems)


def _get_each(batch: Batch, resource: str, accept: str) -> Iterator[tuple[Example, requests.Response]]:
    with requests.Session() as session:
        for example in batch.examples:
            url = batch.server.dicomweb_url + batch.places[example.sop_uid].path(example.sop_uid) + resource
            yield example, session.get(url, headers={"Accept": accept}, timeout=clients.TIMEOUT_S)


def test_files_that_storescu_refuses_get_a_clear_answer_by_stow(batches: list[Batch]) -> None:
    server = batches[-1].server
    problems = []
    for name in REFUSED_BY_STORESCU:
        response = clients.stow(server, [(DATA / name).read_bytes()])
        if response.status_code not in (200, 202, 409) or not response.json():
            problems.append(f"{name}: {response.status_code} {response.text[:300]}")
    assert not problems, "\n".join(problems)
