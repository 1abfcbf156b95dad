"""Which attribute belongs to which level, which are indexed, and which come back unasked.

The one table behind the index's columns, C-FIND's and QIDO's keys and QIDO's default answers: the union of PS3.4
Tables C.6-1 to C.6-5, PS3.18 Tables 10.6.1-5 and 10.6.3-3 to 10.6.3-5, and what raccoon-dicom searches by default.
"""

from __future__ import annotations

from dataclasses import dataclass

from pacs.dicom.model import Level


@dataclass(frozen=True, slots=True)
class Attribute:
    """One standard query attribute. default: part of QIDO's answer unasked; counted: made by the index, not stored."""

    tag: str  # "GGGGEEEE", upper case
    keyword: str
    vr: str
    level: Level
    default: bool = True
    counted: bool = False


def _table(level: Level, rows: str) -> tuple[Attribute, ...]:
    found = []
    for row in rows.strip().splitlines():
        tag, keyword, vr, *flags = row.split()
        found.append(Attribute(tag, keyword, vr, level, "extra" not in flags, "counted" in flags))
    return tuple(found)


# Flags: "extra" = indexed and returned when asked, not part of the default answer; "counted" = made by the index.
PATIENT = _table(
    Level.PATIENT,
    """
    00100010 PatientName PN
    00100020 PatientID LO
    00100021 IssuerOfPatientID LO
    00100030 PatientBirthDate DA
    00100032 PatientBirthTime TM extra
    00100040 PatientSex CS
    00101000 OtherPatientIDs LO extra
    00101001 OtherPatientNames PN extra
    00102160 EthnicGroup SH extra
    00104000 PatientComments LT extra
    00201200 NumberOfPatientRelatedStudies IS extra counted
    00201202 NumberOfPatientRelatedSeries IS extra counted
    00201204 NumberOfPatientRelatedInstances IS extra counted
    """,
)
STUDY = _table(
    Level.STUDY,
    """
    00080020 StudyDate DA
    00080030 StudyTime TM
    00080050 AccessionNumber SH
    00080061 ModalitiesInStudy CS counted
    00080062 SOPClassesInStudy UI extra counted
    00080090 ReferringPhysicianName PN
    00080201 TimezoneOffsetFromUTC SH
    00081030 StudyDescription LO
    00081048 PhysiciansOfRecord PN extra
    00081060 NameOfPhysiciansReadingStudy PN extra
    00081080 AdmittingDiagnosesDescription LO extra
    00101010 PatientAge AS extra
    00101020 PatientSize DS extra
    00101030 PatientWeight DS extra
    00102180 Occupation SH extra
    001021B0 AdditionalPatientHistory LT extra
    0020000D StudyInstanceUID UI
    00200010 StudyID SH
    00201206 NumberOfStudyRelatedSeries IS counted
    00201208 NumberOfStudyRelatedInstances IS counted
    """,
)
SERIES = _table(
    Level.SERIES,
    """
    00080021 SeriesDate DA extra
    00080031 SeriesTime TM extra
    00080060 Modality CS
    00080070 Manufacturer LO extra
    00080080 InstitutionName LO extra
    00081010 StationName SH extra
    0008103E SeriesDescription LO
    00081040 InstitutionalDepartmentName LO extra
    00081050 PerformingPhysicianName PN extra
    00081070 OperatorsName PN extra
    00081090 ManufacturerModelName LO extra
    00180015 BodyPartExamined CS extra
    00181030 ProtocolName LO extra
    0020000E SeriesInstanceUID UI
    00200011 SeriesNumber IS
    00200060 Laterality CS extra
    00201209 NumberOfSeriesRelatedInstances IS counted
    00400244 PerformedProcedureStepStartDate DA
    00400245 PerformedProcedureStepStartTime TM
    """,
)
IMAGE = _table(
    Level.IMAGE,
    """
    00080008 ImageType CS extra
    00080016 SOPClassUID UI
    00080018 SOPInstanceUID UI
    00080022 AcquisitionDate DA extra
    00080023 ContentDate DA extra
    0008002A AcquisitionDateTime DT extra
    00080032 AcquisitionTime TM extra
    00080033 ContentTime TM extra
    00083002 AvailableTransferSyntaxUID UI counted
    00200012 AcquisitionNumber IS extra
    00200013 InstanceNumber IS
    00280008 NumberOfFrames IS
    00280010 Rows US
    00280011 Columns US
    00280100 BitsAllocated US
    0040A491 CompletionFlag CS extra
    0040A493 VerificationFlag CS extra
    00700080 ContentLabel CS extra
    """,
)
ALL = PATIENT + STUDY + SERIES + IMAGE
BY_TAG = {attribute.tag: attribute for attribute in ALL}
BY_KEYWORD = {attribute.keyword: attribute for attribute in ALL}

# Sequences kept with their level's row, so that they come back without opening an instance's metadata. They are
# matched like any attribute outside the table.
KEPT_SEQUENCES = {
    "00081032": Level.STUDY,  # Procedure Code Sequence
    "00080051": Level.STUDY,  # Issuer of Accession Number Sequence
    "00081110": Level.STUDY,  # Referenced Study Sequence
    "00400275": Level.SERIES,  # Request Attributes Sequence: part of QIDO's default series answer
    "0040A043": Level.IMAGE,  # Concept Name Code Sequence
}
DEFAULT_SEQUENCES = frozenset({"00400275"})

UNIQUE_KEYS = {
    Level.PATIENT: "00100020",
    Level.STUDY: "0020000D",
    Level.SERIES: "0020000E",
    Level.IMAGE: "00080018",
}

# Pairs that one range over date and time combined is matched against (PS3.4 C.2.2.2.5).
DATE_TIME_PAIRS = {
    "00080020": "00080030",
    "00080021": "00080031",
    "00080022": "00080032",
    "00080023": "00080033",
    "00100030": "00100032",
    "00400244": "00400245",
}
