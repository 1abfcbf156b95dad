"""Ids of the FHIR resources that the archive answers with: of a study its UID, of a patient Patient ID and issuer.

An id has 64 letters, digits, "-" and "." at most. Other characters of a Patient ID become "-" and two hexadecimal
digits, "--" parts the issuer; what is too long then ends in a digest of the whole. So no two patients share one, as
they would if the characters were just left out.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from pacs.dicom.matchers import Empty, Matcher, Single, TagPath, Wildcard
from pacs.dicom.model import Attributes
from pacs.services.fhir_values import text

ENDPOINT = "raccoon-dicom-web-server"  # as raccoon-dicom calls it
_PATIENT_ID, _ISSUER = ("00100020",), ("00100021",)
_MAX_LENGTH = 64
_KEPT, _DIGEST = 40, 20
_LONG = re.compile(rf"(.*)-h([0-9a-f]{{{_DIGEST}}})", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9.]", re.ASCII)
_ESCAPED = re.compile(r"(?:[A-Za-z0-9.]|-[0-9A-F]{2})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class PatientKey:
    """What tells a patient from all others. patient_id is never empty."""

    patient_id: str
    issuer: str = ""

    @property
    def resource_id(self) -> str:
        whole = _escaped(self.patient_id) + (f"--{_escaped(self.issuer)}" if self.issuer else "")
        if len(whole) <= _MAX_LENGTH:
            return whole
        kept = self.patient_id
        while len(_escaped(kept)) > _KEPT:
            kept = kept[:-1]
        return f"{_escaped(kept)}-h{hashlib.sha256(whole.encode()).hexdigest()[:_DIGEST]}"

    @property
    def keys(self) -> dict[TagPath, Matcher]:
        """Finds this patient, and those whose IDs differ in case only."""
        return {_PATIENT_ID: Single(self.patient_id), _ISSUER: Single(self.issuer) if self.issuer else Empty()}


def patient_key(attributes: Attributes) -> PatientKey | None:
    """None without a Patient ID: then nothing says that two studies are of one person."""
    patient_id = text(attributes, "00100020")
    return PatientKey(patient_id, text(attributes, "00100021")) if patient_id else None


def keys_of(resource_id: str) -> dict[TagPath, Matcher] | None:
    """What finds the patient with this id among few others; None when it is the id of nobody."""
    long = _LONG.fullmatch(resource_id)
    if long:
        kept = _unescaped(long[1])
        return None if kept is None else {_PATIENT_ID: Wildcard(f"{kept}*")}
    patient_id, parted, issuer = resource_id.partition("--")
    parts = (_unescaped(patient_id), _unescaped(issuer) if parted else "")
    if not parts[0] or parts[1] is None:
        return None
    return PatientKey(parts[0], parts[1]).keys


def _escaped(value: str) -> str:
    return "".join(
        character if _PLAIN.fullmatch(character) else "".join(f"-{byte:02X}" for byte in character.encode())
        for character in value
    )


def _unescaped(value: str) -> str | None:
    if not _ESCAPED.fullmatch(value):
        return None
    data = re.sub(r"-([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), value)
    try:
        return data.encode("latin-1").decode()
    except UnicodeDecodeError:
        return None
