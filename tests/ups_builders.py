"""Data sets about Unified Procedure Steps, in DICOM JSON and as pydicom has them."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
UPS_WATCH = "1.2.840.10008.5.1.4.34.6.2"
UPS_PULL = "1.2.840.10008.5.1.4.34.6.3"
UPS_EVENT = "1.2.840.10008.5.1.4.34.6.4"
UPS_QUERY = "1.2.840.10008.5.1.4.34.6.5"
ALL_STEPS = "1.2.840.10008.5.1.4.34.5"
FILTERED_STEPS = "1.2.840.10008.5.1.4.34.5.1"


def code(value: str, meaning: str = "some meaning") -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, "99TEST", meaning
    return made


def step(**values: Any) -> Dataset:
    """All attributes that N-CREATE requires (PS3.4 Table CC.2.5-3)."""
    made = Dataset()
    made.TransactionUID = ""
    made.ScheduledProcedureStepPriority = "MEDIUM"
    made.ProcedureStepLabel = "Segment the liver"
    made.WorklistLabel = "Segmentation"
    made.ScheduledProcessingParametersSequence = []
    made.ScheduledStationNameCodeSequence = []
    made.ScheduledStationClassCodeSequence = []
    made.ScheduledStationGeographicLocationCodeSequence = []
    made.ScheduledProcedureStepStartDateTime = "20260504120000"
    made.ScheduledWorkitemCodeSequence = [code("110001", "Image Processing")]
    made.CommentsOnTheScheduledProcedureStep = ""
    made.InputReadinessState = "READY"
    made.InputInformationSequence = []
    made.PatientName = "Müller^Jürgen"
    made.PatientID = "UPS-1"
    made.IssuerOfPatientID = ""
    made.IssuerOfPatientIDQualifiersSequence = []
    made.OtherPatientIDsSequence = []
    made.PatientBirthDate = "19700101"
    made.PatientSex = "M"
    made.AdmissionID = ""
    made.IssuerOfAdmissionIDSequence = []
    made.AdmittingDiagnosesDescription = ""
    made.AdmittingDiagnosesCodeSequence = []
    made.ReferencedRequestSequence = []
    made.ProcedureStepState = "SCHEDULED"
    made.ProcedureStepProgressInformationSequence = []
    made.UnifiedProcedureStepPerformedProcedureSequence = []
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in values.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def performed() -> Dataset:
    """What has to be set before a step can be COMPLETED."""
    item = Dataset()
    item.PerformedStationNameCodeSequence = [code("STATION")]
    item.PerformedProcedureStepStartDateTime = "20260504120100"
    item.PerformedProcedureStepEndDateTime = "20260504120200"
    item.PerformedWorkitemCodeSequence = [code("110001", "Image Processing")]
    item.OutputInformationSequence = []
    made = Dataset()
    made.UnifiedProcedureStepPerformedProcedureSequence = [item]
    return made


def progress(percent: str = "50") -> Dataset:
    item = Dataset()
    item.ProcedureStepProgress = percent
    made = Dataset()
    made.ProcedureStepProgressInformationSequence = [item]
    return made


def change(state: str | None, transaction: str | None) -> Dataset:
    made = Dataset()
    if state is not None:
        made.ProcedureStepState = state
    if transaction is not None:
        made.TransactionUID = transaction
    return made


def with_values(data_set: Dataset, **values: Any) -> Dataset:
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    return data_set


def as_json(data_set: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = data_set.to_json_dict()
    return found
