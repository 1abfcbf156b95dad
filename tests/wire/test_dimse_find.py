"""C-FIND against the real index: levels, keys, answers. pydicom writes the questions and reads the answers."""

from __future__ import annotations

import os
import time
from statistics import median

import pytest

from pacs.dicom.uids import new_uid
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from tests.builders import ct
from tests.server import dcmtk
from tests.unit.dimse.archive import dimse_archive
from tests.unit.dimse.peer import CT, EXPLICIT, IMPLICIT, VERIFICATION, connected, find, identifier

PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_STUDY_FIND = "1.2.840.10008.5.1.4.1.2.3.1"
STUDY = [new_uid() for _ in range(3)]
SERIES = [new_uid() for _ in range(4)]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    """Patient DOE with two studies, of two and one series; patient Wang with one study, in Chinese."""
    with dimse_archive(tmp_path_factory.mktemp("dimse")) as archive:
        doe = {"PatientName": "Doe^Jane", "PatientID": "P1", "StudyDate": "20240131", "StudyTime": "101500"}
        for number in (1, 2, 3):
            archive.put(ct(STUDY[0], SERIES[0], InstanceNumber=number, SeriesDescription="Lung", **doe))
        archive.put(ct(STUDY[0], SERIES[1], Modality="MR", SeriesDescription="Brain", **doe))
        later = {**doe, "StudyDate": "20240201", "StudyTime": "080000", "AccessionNumber": "A2"}
        code = {"CodeValue": "113014", "CodingSchemeDesignator": "DCM", "CodeMeaning": "Study"}
        archive.put(ct(STUDY[1], SERIES[2], ProcedureCodeSequence=[code], **later))
        wang = "Wang^XiaoDong=王^小东"
        archive.put(
            ct(STUDY[2], SERIES[3], PatientName=wang, PatientID="P2", StudyDate="20200101", AccessionNumber=None)
        )
        yield archive


@pytest.fixture
def ask(pacs):
    """Ask one question: ask("STUDY", PatientID="P1") → answers."""

    def asked(level, model=STUDY_FIND, syntax=EXPLICIT, **keys):
        with connected(pacs.port, (model, [syntax])) as peer:
            question = identifier(syntax == IMPLICIT, QueryRetrieveLevel=level, **keys)
            answers, final = find(peer, question)
            assert final.status == 0, (hex(final.status), final.error_comment)
            return answers

    return asked


def status_of(pacs, data, model=STUDY_FIND):
    with connected(pacs.port, (model, [EXPLICIT]), (VERIFICATION, [IMPLICIT])) as peer:
        answers, final = find(peer, data)
        assert answers == []
        # The association lives on.
        peer.association.send(3, Command(field=Field.C_ECHO, sop_class_uid=VERIFICATION, message_id=9))
        assert peer.association.response(9).command.status == 0
    return final


def test_patient_level(ask):
    answers = ask("PATIENT", PATIENT_FIND, PatientID="*", PatientName=None, NumberOfPatientRelatedStudies=None)
    found = {answer.PatientID: answer.NumberOfPatientRelatedStudies for answer in answers}
    assert found == {"P1": 2, "P2": 1}


def test_study_level(ask):
    answers = ask(
        "STUDY",
        PatientID="P1",
        StudyInstanceUID=None,
        StudyDate=None,
        ModalitiesInStudy=None,
        NumberOfStudyRelatedSeries=None,
        NumberOfStudyRelatedInstances=None,
    )
    found = {answer.StudyInstanceUID: answer for answer in answers}
    assert set(found) == {STUDY[0], STUDY[1]}
    first = found[STUDY[0]]
    assert first.StudyDate == "20240131"
    assert sorted(first.ModalitiesInStudy) == ["CT", "MR"]
    assert (first.NumberOfStudyRelatedSeries, first.NumberOfStudyRelatedInstances) == (2, 4)


def test_series_level(ask):
    answers = ask(
        "SERIES", StudyInstanceUID=STUDY[0], SeriesInstanceUID=None, Modality=None, NumberOfSeriesRelatedInstances=None
    )
    found = {a.SeriesInstanceUID: (a.Modality, a.NumberOfSeriesRelatedInstances) for a in answers}
    assert found == {SERIES[0]: ("CT", 3), SERIES[1]: ("MR", 1)}


def test_image_level(ask):
    answers = ask("IMAGE", StudyInstanceUID=STUDY[0], SeriesInstanceUID=SERIES[0], InstanceNumber=None, Rows=None)
    assert sorted(answer.InstanceNumber for answer in answers) == [1, 2, 3]
    assert {answer.Rows for answer in answers} == {64}


@pytest.mark.parametrize("level", ["PATIENT", "STUDY", "SERIES", "IMAGE"])
def test_all_levels_of_patient_root(ask, level):
    answers = ask(level, PATIENT_FIND, PatientID="P1")
    assert len(answers) == {"PATIENT": 1, "STUDY": 2, "SERIES": 3, "IMAGE": 5}[level]
    assert {answer.QueryRetrieveLevel for answer in answers} == {level}


def test_patient_study_only_has_two_levels(ask, pacs):
    assert len(ask("PATIENT", PATIENT_STUDY_FIND, PatientID="P1")) == 1
    assert len(ask("STUDY", PATIENT_STUDY_FIND, PatientID="P1")) == 2
    final = status_of(pacs, identifier(QueryRetrieveLevel="SERIES", StudyInstanceUID=STUDY[0]), PATIENT_STUDY_FIND)
    assert final.status == 0xA900


def test_relational_keys_are_matched_without_negotiation(ask):
    assert {a.StudyInstanceUID for a in ask("STUDY", SeriesDescription="Brain", StudyInstanceUID=None)} == {STUDY[0]}
    assert len(ask("IMAGE", PatientID="P1", SOPInstanceUID=None)) == 5


def test_every_requested_key_comes_back_empty_when_there_is_no_value(ask):
    (answer,) = ask(
        "STUDY",
        StudyInstanceUID=STUDY[2],
        AccessionNumber=None,
        InstitutionName=None,
        PatientComments=None,
        ProcedureCodeSequence=[],
        StorageMediaFileSetID=None,
    )
    for keyword in ("AccessionNumber", "InstitutionName", "PatientComments", "StorageMediaFileSetID"):
        assert not answer[keyword].value, keyword
    assert answer["ProcedureCodeSequence"].VR == "SQ"
    assert len(answer.ProcedureCodeSequence) == 0


def test_unrequested_attributes_do_not_come_back(ask):
    (answer,) = ask("STUDY", StudyInstanceUID=STUDY[0])
    assert {element.keyword for element in answer} == {"StudyInstanceUID", "QueryRetrieveLevel", "RetrieveAETitle"}


def test_retrieve_ae_title_and_availability(ask):
    (answer,) = ask("STUDY", StudyInstanceUID=STUDY[0], InstanceAvailability="NEARLINE", RetrieveAETitle="ELSEWHERE")
    assert (answer.RetrieveAETitle, answer.InstanceAvailability) == ("ARCHIVE", "ONLINE")


def test_names_of_other_scripts_are_answered_in_utf8(ask):
    (answer,) = ask("STUDY", PatientID="P2", PatientName=None)
    assert answer.SpecificCharacterSet == "ISO_IR 192"
    assert answer.PatientName.ideographic == "王^小东"


def test_plain_answers_declare_no_character_set(ask):
    (answer,) = ask("STUDY", StudyInstanceUID=STUDY[0], PatientName=None)
    assert "SpecificCharacterSet" not in answer
    assert answer.PatientName == "Doe^Jane"


@pytest.mark.parametrize(("charset", "name"), [("ISO_IR 192", "*=王*"), ("GB18030", "*=王*")])
def test_the_identifiers_character_set_is_honoured(ask, charset, name):
    answers = ask("STUDY", SpecificCharacterSet=charset, PatientName=name, PatientID=None)
    assert [answer.PatientID for answer in answers] == ["P2"]


def test_sequences_come_back_with_the_items_that_were_asked_for(ask):
    (answer,) = ask(
        "STUDY",
        StudyInstanceUID=STUDY[1],
        ProcedureCodeSequence=[{"CodeValue": "", "CodeMeaning": "", "CodingSchemeVersion": ""}],
    )
    (item,) = answer.ProcedureCodeSequence
    assert (item.CodeValue, item.CodeMeaning) == ("113014", "Study")
    assert not item["CodingSchemeVersion"].value
    assert "CodingSchemeDesignator" not in item


def test_sequence_matching(ask):
    for value, expected in (("113014", [STUDY[1]]), ("999", [])):
        answers = ask("STUDY", StudyInstanceUID=None, ProcedureCodeSequence=[{"CodeValue": value}])
        assert [answer.StudyInstanceUID for answer in answers] == expected


@pytest.mark.parametrize(
    ("date", "time_of_day", "expected"),
    [
        ("20240131-20240201", "110000-090000", {STUDY[1]}),
        ("20240131-20240201", "100000-070000", {STUDY[0]}),
        ("20240131-20240201", "100000-090000", {STUDY[0], STUDY[1]}),
        ("20240131-", None, {STUDY[0], STUDY[1]}),
        ("20240131", "100000-103000", {STUDY[0]}),
    ],
)
def test_dates_and_times_are_ranged_together(ask, date, time_of_day, expected):
    answers = ask("STUDY", StudyDate=date, StudyTime=time_of_day, StudyInstanceUID=None)
    assert {answer.StudyInstanceUID for answer in answers} == expected


def test_uid_lists_and_wildcards(ask):
    assert len(ask("STUDY", StudyInstanceUID=[STUDY[0], STUDY[2], "1.2.3"])) == 2
    assert len(ask("STUDY", PatientName="d?e^j*")) == 2
    assert ask("STUDY", PatientName="%") == []


def test_implicit_vr_questions_and_answers(ask):
    (answer,) = ask("STUDY", syntax=IMPLICIT, StudyInstanceUID=STUDY[0], NumberOfStudyRelatedInstances=None)
    assert answer.NumberOfStudyRelatedInstances == 4


def test_nothing_found_is_a_success_without_answers(ask):
    assert ask("STUDY", PatientID="NOBODY") == []


def test_private_attributes_are_found_and_returned_in_the_block_that_was_asked_for(pacs):
    study_uid = new_uid()
    private = {"00090010": {"vr": "LO", "Value": ["ACME"]}, "00091001": {"vr": "LO", "Value": ["blue"]}}
    pacs.put(ct(study_uid, PatientID="P9", **private))
    data = b"".join(
        [
            b"\x08\x00\x52\x00CS\x06\x00STUDY ",
            b"\x09\x00\x11\x00LO\x04\x00ACME",
            b"\x09\x00\x01\x11LO\x04\x00blue",
            b"\x20\x00\x0d\x00UI\x00\x00",
        ]
    )
    with connected(pacs.port, (STUDY_FIND, [EXPLICIT])) as peer:
        (answer,), _ = find(peer, data)
    assert answer.StudyInstanceUID == study_uid
    assert answer[0x00090011].value == "ACME"
    assert answer[0x00091101].value == "blue"


@pytest.mark.parametrize(
    "data",
    [
        identifier(StudyInstanceUID=STUDY[0]),
        identifier(QueryRetrieveLevel="", StudyInstanceUID=STUDY[0]),
        identifier(QueryRetrieveLevel="FRAME", StudyInstanceUID=STUDY[0]),
        identifier(QueryRetrieveLevel="PATIENT", PatientID="P1"),  # not a level of Study Root
        identifier(QueryRetrieveLevel="STUDY", StudyDate="yesterday"),
    ],
    ids=["no level", "empty level", "unknown level", "level of another model", "no date"],
)
def test_a_question_that_means_nothing_is_told_so(pacs, data):
    final = status_of(pacs, data)
    assert final.status == 0xA900
    assert final.error_comment


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x08\x00\x52\x00CS\xff\xffSTUDY ", os.urandom(200)])
def test_garbage_for_an_identifier_is_told_so(pacs, data):
    final = status_of(pacs, data)
    assert final.status in (0xA900, 0xC000)
    assert final.error_comment


def test_bulk_data_that_is_asked_for_is_a_key_that_is_not_supported(pacs):
    with connected(pacs.port, (STUDY_FIND, [EXPLICIT])) as peer:
        command = Command(field=Field.C_FIND, sop_class_uid=STUDY_FIND, message_id=1, data_set_type=HAS_DATA_SET)
        question = identifier(QueryRetrieveLevel="IMAGE", StudyInstanceUID=STUDY[1], SOPInstanceUID=None)
        peer.association.send(1, command, question + b"\xe0\x7f\x10\x00OW\x00\x00\x00\x00\x00\x00")
        message = peer.association.response(1)
        message.drain()
        assert message.command.status == 0xFF01
        assert peer.association.response(1).command.status == 0


def test_a_find_on_another_models_context_is_refused(pacs):
    with connected(pacs.port, (CT, [EXPLICIT])) as peer:
        answers, final = find(peer, identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY[0]))
    assert (answers, final.status) == ([], 0x0122)


def test_many_answers_come_whole_and_can_be_cancelled(tmp_path):
    with dimse_archive(tmp_path) as pacs:
        study_uid, series_uid = new_uid(), new_uid()
        for number in range(1200):
            pacs.put(ct(study_uid, series_uid, rows=1, columns=1, InstanceNumber=number))
        question = identifier(
            QueryRetrieveLevel="IMAGE",
            StudyInstanceUID=study_uid,
            SOPInstanceUID=None,
            InstanceNumber=None,
            PatientName=None,
        )
        with connected(pacs.port, (STUDY_FIND, [EXPLICIT])) as peer:
            answers, _ = find(peer, question)
            assert sorted(answer.InstanceNumber for answer in answers) == list(range(1200))
        with connected(pacs.port, (STUDY_FIND, [EXPLICIT])) as peer:
            command = Command(field=Field.C_FIND, sop_class_uid=STUDY_FIND, message_id=4, data_set_type=HAS_DATA_SET)
            cancel = Command(field=Field.C_CANCEL, responded_id=4)
            # Both at once, so that the cancel is there when the server first looks for one.
            parts = peer.association.encode(1, command, question) + peer.association.encode(1, cancel)
            peer.association.send_encoded(parts)
            count = 0
            while (message := peer.association.response(4)).command.has_data_set:
                message.drain()
                count += 1
            assert message.command.status == 0xFE00
            assert 0 < count < 1200


def test_findscu_cancels(pacs, tmp_path):
    answer = dcmtk(
        "findscu", "-S", "--cancel", "1", "-k", "QueryRetrieveLevel=IMAGE", "-k", "SOPInstanceUID",
        "127.0.0.1", str(pacs.port),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    assert dcmtk("echoscu", "127.0.0.1", str(pacs.port)).returncode == 0


def test_findscu_finds(pacs):
    answer = dcmtk(
        "findscu", "-v", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=P1", "-k", "StudyInstanceUID",
        "127.0.0.1", str(pacs.port),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    assert STUDY[0] in answer.stdout
    assert STUDY[1] in answer.stdout
    assert STUDY[2] not in answer.stdout


def test_an_answer_takes_no_delayed_ack(pacs):
    with connected(pacs.port, (STUDY_FIND, [EXPLICIT])) as peer:
        took = []
        for message_id in range(1, 11):
            began = time.monotonic()
            find(peer, identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY[0]), message_id)
            took.append(time.monotonic() - began)
        assert median(took) < 0.04
