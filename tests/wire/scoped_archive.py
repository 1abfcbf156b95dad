"""An archive of which some see a part: what is in it, and who they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from pydicom.dataset import Dataset
from pynetdicom import AE

from pacs.dicom.uids import new_uid
from tests import builders
from tests.server import Server, free_port
from tests.ups_builders import as_json, step
from tests.wire.clients import STOW_TYPE, multipart
from tests.wire.test_access import PASSWORD, account_of
from tests.wire.test_mpps import begun
from tests.worklists import order

MPPS = "1.2.840.10008.3.1.2.3.3"
# By the name of an account of the role writer. What each sees: see Part.
SCOPES: Mapping[str, Mapping[str, Any]] = {
    "by-modality": {"modalities": ["CT"]},
    "by-label": {"labels": ["mine"]},
}


@dataclass(frozen=True)
class Part:
    """A study, and all that there is about it. part: further series of the study that is of another modality."""

    study: str
    series: str
    instance: str
    patient: str
    modality: str
    workitem: str
    mpps: str
    transaction: str
    send: str
    fhir_patient: str

    def names(self) -> set[str]:
        """What no answer may name that is not for those who see the part. Whole words of UIDs, and the Patient ID."""
        return {self.study, self.series, self.instance, self.patient, self.workitem, self.mpps}

    def filled(self, path: str) -> str:
        values = {
            **{"study": self.study, "series": self.series, "instance": self.instance, "patient": self.patient},
            **{"frames": "1", "path": "7FE00010", "step": "S1", "workitem": self.workitem, "send": self.send},
            **{"transaction": self.transaction, "fhir_patient": self.fhir_patient, "aetitle": "WATCHER"},
        }
        if path == "/mpps/{instance}":
            values["instance"] = self.mpps
        return path.format_map(values)


UNKNOWN = Part(
    "1.2.3.4.5.1",
    "1.2.3.4.5.2",
    "1.2.3.4.5.3",
    "NOBODY",
    "CT",
    "1.2.3.4.5.4",
    "1.2.3.4.5.5",
    "1.2.3.4.5.6",
    "0f3a",
    "9",
)


@dataclass(frozen=True)
class Scoped:
    """visible: by both scopes. hidden: from both. mixed: seen by label; by modality one of its series."""

    server: Server
    visible: Part
    hidden: Part
    mixed_study: str
    mixed_ct: str
    mixed_mr: str
    mixed_mr_instance: str
    deleted: str

    def get(self, who: str, path: str, **more: Any) -> requests.Response:
        return requests.get(f"{self.server.dicomweb_url}{path}", auth=(who, PASSWORD), timeout=60, **more)


def filled(server: Server) -> Scoped:
    """server: running, empty, with a peer NOBODY that can be sent to as far as its list of peers says."""
    account_of(server, "admin", "admin")
    for name, scope in SCOPES.items():
        account_of(server, name, "writer", **scope)
    boss = requests.Session()
    boss.auth = ("admin", PASSWORD)
    root = server.dicomweb_url
    visible, hidden = (_part(boss, server, modality) for modality in ("CT", "MR"))
    mixed, ct, mr, of_mr, deleted = (new_uid() for _ in range(5))
    _store(boss, root, builders.ct(mixed, ct, PatientID="MIXED", Modality="CT"))
    for uid in (of_mr, new_uid()):
        _store(boss, root, builders.ct(mixed, mr, uid, PatientID="MIXED", Modality="MR", BodyPartExamined="KNEE"))
    for study in (visible.study, mixed):
        assert boss.put(f"{root}/studies/{study}/labels/mine", timeout=30).status_code == 204
    assert boss.put(f"{root}/studies/{hidden.study}/labels/theirs", timeout=30).status_code == 204
    _store(boss, root, builders.ct(deleted, PatientID="DELETED", Modality="MR"))
    assert boss.delete(f"{root}/studies/{deleted}", timeout=30).status_code == 204
    return Scoped(server, visible, hidden, mixed, ct, mr, of_mr, deleted)


def peers_of(server: Server) -> None:
    server.peers_path.write_text(f"NOBODY=127.0.0.1:{free_port()}\n")


def _store(boss: requests.Session, root: str, instance: bytes) -> None:
    headers = {"Content-Type": STOW_TYPE}
    answer = boss.post(f"{root}/studies", data=multipart([instance]), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


def _part(boss: requests.Session, server: Server, modality: str) -> Part:
    root, (study, series, instance, workitem, mpps, transaction) = server.dicomweb_url, [new_uid() for _ in range(6)]
    patient = f"OF-{modality}"
    _store(boss, root, builders.ct(study, series, instance, PatientID=patient, Modality=modality))
    item = order(
        **{"0020000D": {"vr": "UI", "Value": [study]}, "00100020": {"vr": "LO", "Value": [patient]}},
        step={"00080060": {"vr": "CS", "Value": [modality]}},
    )
    assert boss.post(f"{root}/mwlitems", json=item, timeout=30).status_code == 201
    _perform(server, study, mpps, modality)
    about = Dataset()
    about.StudyInstanceUID = study
    planned = as_json(step(PatientID=patient, InputInformationSequence=[about]))
    made = boss.post(f"{root}/workitems?workitem={workitem}", json=[planned], headers=_JSON, timeout=30)
    assert made.status_code == 201, made.text
    sop = {
        "00081150": {"vr": "UI", "Value": [builders.CT_IMAGE_STORAGE]},
        "00081155": {"vr": "UI", "Value": [instance]},
    }
    asked = {"00081199": {"vr": "SQ", "Value": [sop]}}
    url = f"{root}/commitment-requests/{transaction}"
    assert boss.post(url, json=[asked], headers=_JSON, timeout=30).status_code in (200, 202)
    sent = boss.post(f"{root}/peers/NOBODY/send", json={"targets": [{"study": study}]}, timeout=30)
    assert sent.status_code == 202, sent.text
    found = boss.get(f"{root}/fhir/ImagingStudy/{study}", timeout=30).json()
    person = found["subject"]["reference"].removeprefix("Patient/")
    return Part(study, series, instance, patient, modality, workitem, mpps, transaction, sent.json()["id"], person)


def _perform(server: Server, study: str, uid: str, modality: str) -> None:
    ae = AE("MODALITY")
    ae.add_requested_context(MPPS)
    association = ae.associate("127.0.0.1", server.dimse_port, ae_title=server.ae_title)
    assert association.is_established
    status, _ = association.send_n_create(begun(study, Modality=modality), MPPS, uid)
    assert status.Status == 0
    association.release()


_JSON = {"Content-Type": "application/dicom+json", "Accept": "application/dicom+json"}
