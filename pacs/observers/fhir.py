"""Keeps a FHIR R4 server in step with the archive: Patient, Endpoint and ImagingStudy of each study.

A job names a study and nothing else. Whoever runs it brings the server to what the archive holds then: so a job may run
twice, late, or in another process than the last, and the end is the same. Requests go one by one, what is referred to
first, and not as one transaction: not every server takes one, and each request can be repeated by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pacs.dicom.model import Caller
from pacs.index.work import Job, Work
from pacs.observers.fhir_client import Changed, FhirClient, Held, Refused, TryAgain
from pacs.observers.fhir_merge import merged, without_us
from pacs.observers.fhir_places import Places
from pacs.services import fhir_resources
from pacs.services.fhir_archive import FhirArchive
from pacs.services.fhir_ids import PatientKey, patient_key
from pacs.services.fhir_resources import StudyContent
from pacs.services.fhir_values import URI_SYSTEM, Json, study_identifier
from pacs.services.following import FHIR
from pacs.services.jobs import Ended, Handler

log = logging.getLogger(__name__)

_BATCH = 16
_ATTEMPTS = 4
_CALLER = Caller("fhir", "", "jobs")


class FhirSync:
    """Does the jobs of kind "fhir", whose key is a Study Instance UID.

    endpoint_address: URL of the DICOMweb root for those who read the Endpoint. when_deleted: "remove" an ImagingStudy
    that this archive made, or the status that it gets. removes_patients: a Patient that this archive made goes with
    the last study.
    """

    def __init__(
        self,
        work: Work,
        archive: FhirArchive,
        client: FhirClient,
        *,
        endpoint_address: str,
        when_deleted: str = "remove",
        removes_patients: bool = False,
    ) -> None:
        self._archive = archive
        self._client = client
        self._endpoint_address = endpoint_address
        self._when_deleted = when_deleted
        self._removes_patients = removes_patients
        self._tag = {"system": URI_SYSTEM, "code": archive.namespaces.archive.urn}
        self._places = Places(work, client, self._is_ours)

    @property
    def handler(self) -> Handler:
        return Handler(FHIR, self.run, batch=_BATCH, threads=2)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """Raises Unavailable when the server cannot be asked at all."""
        for job in jobs:
            try:
                self.bring(job.key)
            except Refused as error:
                yield Ended(job, str(error), is_final=True)
            except TryAgain as error:
                yield Ended(job, str(error))
            else:
                yield Ended(job)

    def bring(self, study_uid: str) -> None:
        """Bring the server to what the archive holds of a study. Raises Refused, TryAgain and Unavailable."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._bring(study_uid)
            except Changed:
                if attempt == _ATTEMPTS - 1:
                    raise

    def _bring(self, study_uid: str) -> None:
        identifier = study_identifier(study_uid)
        held = self._places.find("ImagingStudy", identifier)
        # Only now: who reads the archive later than we do, and writes sooner, makes our version the wrong one.
        study = self._archive.content(study_uid, _CALLER)
        if study is None:
            self._take_away(held, identifier)
            return
        is_ours = held is None or self._is_ours(held.resource)
        endpoint = self._reference(fhir_resources.endpoint(self._archive.namespaces.archive, self._endpoint_address))
        ours = self._archive.resource_of(
            study, patient_reference=self._patient_reference(study, held, is_ours), endpoint_reference=endpoint
        )
        if held is None:
            self._make(ours, identifier)
            log.info("fhir made study=%s instances=%d", study_uid, ours["numberOfInstances"])
            return
        if self._write(held, merged(held.resource, ours, is_ours=is_ours)):
            log.info("fhir changed study=%s instances=%d", study_uid, ours["numberOfInstances"])
            if is_ours and held.resource.get("subject") != ours["subject"]:
                self._drop_patient(held)

    def _patient_reference(self, study: StudyContent, held: Held | None, is_ours: bool) -> str | None:
        """Of the Patient, which is there then; None when nothing tells the patient from others."""
        subject = (held.resource.get("subject") or {}).get("reference") if held and not is_ours else None
        if subject:  # whoever made the ImagingStudy knows better
            return str(subject)
        if patient_key(study.attributes) is None:
            return None
        return self._reference(fhir_resources.patient(study.attributes, self._archive.namespaces))

    def _reference(self, ours: Json) -> str:
        """Of a resource that is there then as we say; one that somebody else made is left as it is."""
        identifier = ours["identifier"][0]
        held = self._places.find(ours["resourceType"], identifier)
        if held is None:
            return self._make(ours, identifier)
        if self._is_ours(held.resource):
            self._write(held, merged(held.resource, ours, is_ours=True))
        return held.reference

    def _make(self, ours: Json, identifier: Mapping[str, Any]) -> str:
        return self._places.make({**ours, "meta": {"tag": [self._tag]}}, identifier)

    def _write(self, held: Held, resource: Json) -> bool:
        """Whether there was anything to change."""
        if resource == held.resource:
            return False
        self._client.update(held, resource)
        return True

    def _take_away(self, held: Held | None, identifier: Mapping[str, Any]) -> None:
        """What the archive does not hold any more."""
        if held is None:
            self._places.forget("ImagingStudy", identifier)
            return
        if self._is_ours(held.resource) and self._when_deleted == "remove":
            self._client.delete(held)
            self._places.forget("ImagingStudy", identifier)
            self._drop_patient(held)
        else:
            status = "cancelled" if self._when_deleted == "remove" else self._when_deleted
            endpoint = fhir_resources.endpoint(self._archive.namespaces.archive, self._endpoint_address)
            place = self._places.find("Endpoint", endpoint["identifier"][0])
            self._write(held, without_us(held.resource, status, place.reference if place else "Endpoint/"))
        log.info("fhir took away study=%s", identifier["value"].removeprefix("urn:oid:"))

    def _drop_patient(self, study: Held) -> None:
        """The patient whom a study on the server referred to, when that was the last one."""
        kind, _, resource_id = str((study.resource.get("subject") or {}).get("reference", "")).rpartition("/")
        if not self._removes_patients or kind != "Patient":
            return
        patient = self._client.read("Patient", resource_id)
        if patient is None or not self._is_ours(patient.resource):
            return
        # Ours comes first.
        identifier: Json = next(iter(patient.resource.get("identifier") or []), {})
        if "value" not in identifier:
            return
        key = PatientKey(identifier["value"], (identifier.get("assigner") or {}).get("display", ""))
        if self._archive.has_studies_of(key, _CALLER) or self._client.is_referred_to(patient, except_for=study.id):
            return
        try:
            self._client.delete(patient)
        except Changed:  # something else refers to it
            log.info("fhir patient stays, as the server wants")
            return
        self._places.forget("Patient", identifier)

    def _is_ours(self, resource: Mapping[str, Any]) -> bool:
        """Whether this archive made it: it says so itself, so that a lost index forgets nothing."""
        tags = (resource.get("meta") or {}).get("tag") or []
        return any((tag.get("system"), tag.get("code")) == (self._tag["system"], self._tag["code"]) for tag in tags)
