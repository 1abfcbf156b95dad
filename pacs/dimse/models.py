"""Which SOP classes the archive serves, and the query/retrieve information models (PS3.4 C.6)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pydicom.uid import UID
from pynetdicom.service_class import (
    NonPatientObjectStorageServiceClass,
    ServiceClass,
    StorageServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class

from pacs.dicom.model import Level
from pacs.dimse.command import Field

VERIFICATION = "1.2.840.10008.1.1"


@dataclass(frozen=True, slots=True)
class Model:
    """One Q/R SOP class: the request it takes, and the levels it knows, top to bottom."""

    name: str
    field: Field
    levels: tuple[Level, ...]


def _models() -> dict[str, Model]:
    roots = {
        "1": ("patient-root", (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)),
        "2": ("study-root", (Level.STUDY, Level.SERIES, Level.IMAGE)),
        "3": ("patient-study-only", (Level.PATIENT, Level.STUDY)),  # retired, PS3.4-2004 C.6.3
    }
    requests = {"1": Field.C_FIND, "2": Field.C_MOVE, "3": Field.C_GET}
    return {
        f"1.2.840.10008.5.1.4.1.2.{root}.{request}": Model(name, field, levels)
        for root, (name, levels) in roots.items()
        for request, field in requests.items()
    }


MODELS = _models()


@lru_cache(maxsize=4096)
def is_storage(sop_class_uid: str) -> bool:
    """Whether instances of this class can be sent with C-STORE: any storage class, private and future ones too."""
    if sop_class_uid == VERIFICATION or sop_class_uid in MODELS:
        return False
    service = uid_to_service_class(sop_class_uid)
    if service in (StorageServiceClass, NonPatientObjectStorageServiceClass):
        return True
    if service is not ServiceClass:
        return False
    uid = UID(sop_class_uid)
    if not uid.startswith("1.2.840.10008.") or uid.name == str(uid):
        return True  # private, or younger than our dictionary
    # In the dictionary, but unknown to pynetdicom: retired storage classes, print, media, transfer syntaxes ...
    name = uid.name
    return "Storage" in name and "Commitment" not in name and "Directory" not in name and "Service" not in name
