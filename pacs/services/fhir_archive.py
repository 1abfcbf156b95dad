"""What the index holds, as FHIR resources. No DICOM file is opened for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo

import orjson

from pacs.dicom.matchers import Matcher, TagPath, Wildcard
from pacs.dicom.model import Attributes, Caller, Level, Target
from pacs.index.base import Fields, Page, Query
from pacs.services import fhir_ids, fhir_resources
from pacs.services.fhir_resources import SeriesContent, StudyContent
from pacs.services.fhir_values import Json, Namespaces, text
from pacs.services.query import QueryService

_SERIES_UID = "0020000E"
# Issuer of Patient ID Qualifiers, Patient Identity Removed.
_PATIENT_TAGS = frozenset({"00100024", "00120062"})
_STUDY_FIELDS = Fields(
    frozenset({Level.PATIENT, Level.STUDY}), _PATIENT_TAGS | {"00080051", "00081032", "00081060", "00080201"}
)
_SERIES_FIELDS = Fields(
    frozenset({Level.SERIES}),
    frozenset({"00080021", "00080031", "00081050", "00081070", "00180015", "00200060", "00082218", _SERIES_UID}),
)
_INSTANCE_FIELDS = Fields(tags=frozenset({"00080016", "00080018", "00200013", "00700080", "0040A043", _SERIES_UID}))
_COUNT = "00201209"
_PAGE = 100

Keys = Mapping[TagPath, Matcher]
Accepts = Callable[[Attributes], bool]


@dataclass(frozen=True, slots=True)
class Found:
    """Resources of one page; total: of all pages."""

    resources: list[Json]
    total: int


class FhirArchive:
    """Reads studies and patients. Safe to call from any thread.

    zone: of times that do not say theirs, None: the machine's. max_instances: so many of a study are listed; they are
    counted all the same.
    """

    def __init__(
        self, query: QueryService, namespaces: Namespaces, *, zone: tzinfo | None = None, max_instances: int = 2000
    ) -> None:
        self.namespaces = namespaces
        self.zone = zone
        self._query = query
        self._max_instances = max_instances

    def content(self, study_uid: str, caller: Caller) -> StudyContent | None:
        """One study as it is now; None when it is not there."""
        rows = _rows(self._search(Level.STUDY, {}, _STUDY_FIELDS, caller, within=Target(study_uid), limit=1))
        return self._content(study_uid, rows[0], caller) if rows else None

    def resource_of(self, study: StudyContent, *, patient_reference: str | None, endpoint_reference: str) -> Json:
        """Its ImagingStudy, without an id."""
        return fhir_resources.imaging_study(
            study,
            self.namespaces,
            zone=self.zone,
            patient_reference=patient_reference,
            endpoint_reference=endpoint_reference,
        )

    def has_studies_of(self, patient: fhir_ids.PatientKey, caller: Caller) -> bool:
        rows = self._pages(Level.PATIENT, patient.keys, Fields(frozenset({Level.PATIENT})), caller)
        return any(fhir_ids.patient_key(row) == patient for row in rows)

    # -- as resources of this archive, with its own ids --

    def endpoint(self, address: str) -> Json:
        return {"id": fhir_ids.ENDPOINT, **fhir_resources.endpoint(self.namespaces.archive, address)}

    def study(self, study_uid: str, caller: Caller) -> Json | None:
        found = self.content(study_uid, caller)
        return self._own_study(found) if found is not None else None

    def studies(
        self, keys: Keys, caller: Caller, *, limit: int, offset: int, accepts: Accepts = lambda row: True
    ) -> Found:
        """ImagingStudy resources, in order of first storage. accepts: what the index cannot tell of a row."""
        page, rows = self._page(Level.STUDY, keys, _STUDY_FIELDS, caller, limit, offset)
        kept = [row for row in rows if accepts(row)]
        contents = [self._content(text(row, "0020000D"), row, caller) for row in kept]
        return Found([self._own_study(each) for each in contents], (page.total or 0) - len(rows) + len(kept))

    def patient(self, resource_id: str, caller: Caller) -> Json | None:
        keys = fhir_ids.keys_of(resource_id)
        for row in self._pages(Level.PATIENT, keys, _patient_fields(), caller) if keys else ():
            key = fhir_ids.patient_key(row)
            if key is not None and key.resource_id == resource_id:
                return self._own_patient(row)
        return None

    def patients(
        self, keys: Keys, caller: Caller, *, limit: int, offset: int, accepts: Accepts = lambda row: True
    ) -> Found:
        """Patient resources; people without a Patient ID are within their studies only."""
        keys = {("00100020",): Wildcard("?*"), **keys}
        page, rows = self._page(Level.PATIENT, keys, _patient_fields(), caller, limit, offset)
        kept = [row for row in rows if accepts(row)]
        return Found([self._own_patient(row) for row in kept], (page.total or 0) - len(rows) + len(kept))

    def _own_patient(self, row: Attributes) -> Json:
        key = fhir_ids.patient_key(row)
        assert key is not None
        return {"id": key.resource_id, **fhir_resources.patient(row, self.namespaces)}

    def _own_study(self, study: StudyContent) -> Json:
        key = fhir_ids.patient_key(study.attributes)
        made = self.resource_of(
            study,
            patient_reference=f"Patient/{key.resource_id}" if key else None,
            endpoint_reference=f"Endpoint/{fhir_ids.ENDPOINT}",
        )
        return {"id": study.study_uid, **made}

    # -- from the index --

    def _content(self, study_uid: str, row: Attributes, caller: Caller) -> StudyContent:
        within = Target(study_uid)
        series = _rows(self._search(Level.SERIES, {}, _SERIES_FIELDS, caller, within=within))
        images = _rows(
            self._search(Level.IMAGE, {}, _INSTANCE_FIELDS, caller, within=within, limit=self._max_instances)
        )
        listed: dict[str, list[Attributes]] = {}
        for image in images:
            listed.setdefault(text(image, _SERIES_UID), []).append(image)
        contents = [
            SeriesContent(each, _count(each), sorted(listed.get(text(each, _SERIES_UID), ()), key=_number))
            for each in series
        ]
        return StudyContent(study_uid, row, contents)

    def _page(
        self, level: Level, keys: Keys, fields: Fields, caller: Caller, limit: int, offset: int
    ) -> tuple[Page, list[Attributes]]:
        query = Query(level, keys, None, fields, limit=max(limit, 1), offset=offset, count=True)
        page = self._query.search(query, caller)
        return page, _rows(page) if limit else []

    def _pages(self, level: Level, keys: Keys, fields: Fields, caller: Caller) -> Iterator[Attributes]:
        query = Query(level, keys, None, fields, limit=_PAGE)
        while True:
            page = self._query.search(query, caller, log_level=logging.DEBUG)
            yield from _rows(page)
            if page.next is None:
                return
            query = replace(query, after=page.next)

    def _search(
        self, level: Level, keys: Keys, fields: Fields, caller: Caller, *, within: Target, limit: int | None = None
    ) -> Page:
        query = Query(level, keys, within, fields, limit=limit)
        return self._query.search(query, caller, log_level=logging.DEBUG)


def _patient_fields() -> Fields:
    return Fields(frozenset({Level.PATIENT}), _PATIENT_TAGS)


def _rows(page: Page) -> list[Attributes]:
    return [orjson.loads(row) for row in page.rows]


def _count(series: Attributes) -> int:
    return int(text(series, _COUNT) or 0)


def _number(image: Attributes) -> tuple[bool, int, str]:
    """Of what has no Instance Number, last."""
    try:
        return False, int(text(image, "00200013")), text(image, "00080018")
    except ValueError:
        return True, 0, text(image, "00080018")


def contents_of(instances: Sequence[Attributes]) -> list[StudyContent]:
    """Studies put together from the data sets of single instances, in order; the last says what they have in common."""
    studies: dict[str, dict[str, list[Attributes]]] = {}
    for instance in instances:
        series = studies.setdefault(text(instance, "0020000D"), {})
        series.setdefault(text(instance, _SERIES_UID), []).append(instance)
    return [
        StudyContent(
            study_uid,
            list(series.values())[-1][-1],
            [SeriesContent(images[-1], len(images), sorted(images, key=_number)) for images in series.values()],
        )
        for study_uid, series in studies.items()
    ]
