"""Changes of the Mongo index, each on one transaction's documents (``mongo_unit``)."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from pacs.dicom.model import BlobRef, Level, StoredInstance, Target
from pacs.index import mongo_added, mongo_changes, mongo_work
from pacs.index.base import Discarded, Put, PutResult
from pacs.index.mongo_contents import contents
from pacs.index.mongo_documents import (
    STORED,
    WHOLE_BYTES,
    Document,
    body,
    counted,
    instance_id,
    new_instance,
    new_patient,
    new_series,
    new_study,
    series_id,
    stored_instance,
    study_of,
    subtree,
    version_fields,
    with_lists,
    within_uids,
)
from pacs.index.mongo_listing import labels_of
from pacs.index.mongo_recent import Stale
from pacs.index.mongo_tables import Tables
from pacs.index.mongo_unit import Unit
from pacs.index.rows import Prepared, Rows, rows_of
from pacs.index.work import ChangeKind, NewJob

_PATIENT_COUNTERS = ("00201200", "00201202", "00201204")
_VERSIONS_PAGE = 1000


class PutOptions(NamedTuple):
    """As of ``Index.put``."""

    replace: bool = False
    announce: bool = True


def put_all(
    unit: Unit, items: Sequence[Prepared], options: PutOptions, jobs: Sequence[Sequence[NewJob]]
) -> list[PutResult]:
    """Add records one after the other."""
    targets = [item.record.header.target for item in items]
    unit.load(
        {
            "instances": [instance_id(target) for target in targets],
            "studies": [target.study_uid for target in targets],
            "series": [series_id(target) for target in targets],
            "patients": [item.rows.identity for item in items],
        }
    )
    added = unit.definitions()
    unit.reserve(len(items))
    new = {target.study_uid for target in targets if unit.get("studies", target.study_uid) is None}
    # Those of a study that comes again, or that is read in anew.
    labels = labels_of(unit.tables, new, unit.session) if new else {}
    results = [_put(unit, item, options.replace, added, labels) for item in items]
    mongo_work.follow(unit, targets, results, jobs, announce=options.announce)
    return results


def remove_all(unit: Unit, targets: Sequence[Target]) -> list[BlobRef]:
    """Take subtrees out, superseded versions too; the files that no row points at any more."""
    blobs: dict[str, BlobRef] = {}
    for target in targets:
        for instance in [*_take_superseded(unit, target), *take_out(unit, target)]:
            blobs[instance.blob.key] = instance.blob
    kept = held_keys(unit.tables, list(blobs), unit.session)
    return [ref for key, ref in blobs.items() if key not in kept]


def held_keys(tables: Tables, keys: Sequence[str], session: object = None) -> set[str]:
    """Those of the keys that some row points at."""
    found: set[str] = set()
    for name in ("instances", "superseded", "deleted"):
        for begin in range(0, len(keys), _VERSIONS_PAGE):
            where = {"blob_key": {"$in": list(keys[begin : begin + _VERSIONS_PAGE])}}
            found.update(one["blob_key"] for one in tables[name].find(where, {"blob_key": 1}, session=session))
    return found


def delete(unit: Unit, target: Target, at: datetime, jobs: Sequence[NewJob] = ()) -> list[StoredInstance]:
    """Take a subtree out and note what was there, earlier versions too."""
    instances = [*take_out(unit, target), *_take_superseded(unit, target)]
    if instances:
        mongo_work.add_jobs(unit, jobs)
    noted = {one.blob.key: deleted_document(Discarded(one, at, is_deleted=True)) for one in instances}
    known = unit.distinct("deleted", "blob_key", {"blob_key": {"$in": list(noted)}})
    unit.insert("deleted", [document for key, document in noted.items() if key not in known])
    return instances


def deleted_document(version: Discarded) -> Document:
    return {**version_fields(version.instance), "at": version.at.isoformat()}


def _put(
    unit: Unit,
    item: Prepared,
    replace: bool,
    added: Sequence[mongo_added.Definition],
    labels: Mapping[str, list[str]],
) -> PutResult:
    header, blob, rows = item.record.header, item.record.blob, item.rows
    target, own_id = header.target, instance_id(header.target)
    old = unit.get("instances", own_id)
    existing = None
    if old is not None:
        existing = stored_instance(old)
        if (existing.blob.digest, existing.transfer_syntax_uid) == (blob.digest, header.transfer_syntax_uid):
            return PutResult(Put.SAME, existing)
        if not replace:
            return PutResult(Put.CONFLICT, existing)
        unit.insert("superseded", [{**version_fields(existing), "at": datetime.now(UTC).isoformat()}])
    seq = unit.place()
    _write_instance(unit, item, seq if old is None else old["o"], seq, added, is_new=old is None)
    study, series = unit.get("studies", target.study_uid), unit.get("series", series_id(target))
    is_new_study, is_new_series = study is None, series is None
    study = study or new_study(target.study_uid, seq)
    series = series or new_series(target, seq)
    grown = (int(is_new_study), int(is_new_series), int(old is None))
    _note_in_series(series, study, rows, own_id, seq, grown[2])
    _note_in_patient(unit, study, rows, own_id, seq, grown)
    study["n"] = {
        "00201206": study["n"]["00201206"] + grown[1],
        "00201208": study["n"]["00201208"] + grown[2],
    }
    study["last"], study["last_seq"] = own_id, seq
    if existing is not None:
        study["classes"] = counted(study["classes"], existing.sop_class_uid, -1)
    study["classes"] = counted(study["classes"], header.sop_class_uid, 1)
    if study["study_digest"] != rows.study_digest:
        study["inconsistent"] = not is_new_study
        study["study_digest"] = rows.study_digest
        study.update(body(Level.STUDY, rows.study))
    with_lists(study)
    if existing is not None and study["inconsistent"]:
        _note_consistency(unit, study)
    if is_new_study:
        if target.study_uid in labels:
            study["labels"] = labels[target.study_uid]
        unit.add("studies", study)
    if is_new_series:
        unit.add("series", series)
    unit.count(
        studies=grown[0],
        series=grown[1],
        instances=grown[2],
        size_bytes=blob.size_bytes - (existing.blob.size_bytes if existing else 0),
    )
    return PutResult(Put.REPLACED if existing else Put.STORED, existing)


def _note_in_series(series: Document, study: Document, rows: Rows, own_id: str, seq: int, grown: int) -> None:
    if series["d"] != rows.series.digest:
        _use_series(series, study, rows)
    series["n"] = {"00201209": series["n"]["00201209"] + grown}
    series["last"], series["last_seq"] = own_id, seq


def _use_series(series: Document, study: Document, rows: Rows) -> None:
    series.update(body(Level.SERIES, rows.series))
    if series["modality"] != rows.modality:
        modalities = study["modalities"]
        if series["modality"] is not None:
            modalities = counted(modalities, series["modality"], -1)
        study["modalities"] = counted(modalities, rows.modality, 1)
        series["modality"] = rows.modality


def _note_in_patient(
    unit: Unit, study: Document, rows: Rows, own_id: str, seq: int, grown: tuple[int, int, int]
) -> None:
    """The study's patient as this data set names it, made or brought up to date; the study goes there."""
    patient = unit.get("patients", rows.identity)
    if patient is None:
        patient = _make_patient(unit, rows.identity, seq)
    old_identity = study["patient"]
    study["patient"] = rows.identity
    _use_patient(unit, patient, rows, study)
    patient["last"] = own_id
    if old_identity is not None and old_identity != rows.identity:
        whole = (1, study["n"]["00201206"], study["n"]["00201208"])
        _count(patient, whole)
        _leave_patient(unit, old_identity, whole)
    _count(patient, grown)


def _make_patient(unit: Unit, identity: str, order: int) -> Document:
    patient = new_patient(identity, order)
    unit.add("patients", patient)
    unit.count(patients=1)
    return patient


def _use_patient(unit: Unit, patient: Document, rows: Rows, study: Document | None = None) -> None:
    """Give a patient these attributes, and all its studies with it. study: one that is not among them yet."""
    if patient["d"] != rows.patient.digest:
        patient.update(body(Level.PATIENT, rows.patient))
        part = _part(patient)
        for one in unit.studies_of(patient["_id"]) if patient["n"]["00201200"] else ():
            unit.take_on("studies", one)["p"] = part
    if study is not None:
        study["p"] = _part(patient)


def _part(patient: Document) -> Document:
    return {name: patient[name] for name in ("f", "r", "d", "k")}


def _count(patient: Document, by: tuple[int, int, int]) -> None:
    patient["n"] = {tag: patient["n"][tag] + number for tag, number in zip(_PATIENT_COUNTERS, by, strict=True)}


def _leave_patient(unit: Unit, identity: str, by: tuple[int, int, int]) -> None:
    """Count a patient down; it takes the attributes of the last stored instance that is left, or goes."""
    patient = unit.get("patients", identity)
    if patient is None:
        raise Stale
    _count(patient, (-by[0], -by[1], -by[2]))
    if patient["n"]["00201200"] == 0:
        unit.drop("patients", identity)
        unit.count(patients=-1)
        return
    studies = unit.studies_of(identity)
    if not studies:
        raise Stale
    last = max(studies, key=lambda study: int(study["last_seq"]))["last"]
    if patient["last"] != last:
        patient["last"] = last
        _use_patient(unit, patient, _rows_at(unit, last))


def _write_instance(
    unit: Unit, item: Prepared, order: int, seq: int, added: Sequence[mongo_added.Definition], *, is_new: bool
) -> None:
    document = new_instance(item, order, seq)
    values = mongo_added.values_of_all(added, item.record.header.attributes)
    if values:
        document["x"] = values
    if not is_new:
        unit.delete("contents", _contents_of(item.record.header.target))
        unit.withdraw("contents", "instance", document["_id"])
    unit.add("instances", document)
    if "m" not in document:
        unit.insert("contents", _pieces(document, item))


def _pieces(document: Document, item: Prepared) -> list[Document]:
    return [
        {
            "_id": f"{document['_id']}\\{name}{begin:010}",
            "instance": document["_id"],
            "study_uid": document["study_uid"],
            name: data[begin : begin + WHOLE_BYTES],
        }
        for name, data in (("m", zlib.compress(item.metadata, 3)), ("l", zlib.compress(item.layout, 3)))
        for begin in range(0, len(data), WHOLE_BYTES)
    ]


def _rows_at(unit: Unit, own_id: str) -> Rows:
    """What a stored instance's attributes make of the levels."""
    unit.settle()
    document = next(iter(unit.find("instances", {"_id": own_id, "study_uid": study_of(own_id)}, STORED)), None)
    if document is None:
        raise Stale
    one = stored_instance(document)
    metadata = contents(unit.tables, [own_id], "m", unit.session)[own_id]
    return rows_of(orjson.loads(metadata), one.target, one.sop_class_uid, one.transfer_syntax_uid)


def _note_consistency(unit: Unit, study: Document) -> None:
    """Whether a study's instances still disagree."""
    unit.settle()
    study["inconsistent"] = len(unit.distinct("instances", "study_digest", subtree(Target(study["_id"])))) > 1


def _take_superseded(unit: Unit, target: Target) -> list[StoredInstance]:
    found = [stored_instance(one) for one in unit.find("superseded", within_uids(target)).sort("_id", 1)]
    if found:
        unit.delete("superseded", within_uids(target))
    return found


def take_out(unit: Unit, target: Target) -> list[StoredInstance]:
    """Take the current versions of a subtree out, with counters, and return them."""
    found = sorted(unit.find("instances", subtree(target), STORED), key=lambda one: int(one["o"]))
    if not found:
        return []
    unit.delete("contents", _contents_of(target))
    unit.delete("instances", subtree(target))
    study = unit.get("studies", target.study_uid)
    assert study is not None
    instances = [stored_instance(one) for one in found]
    mongo_changes.note(unit, ChangeKind.DELETED, [instance.target for instance in instances], datetime.now(UTC))
    emptied = 0
    for own_id, number in Counter(one["series_id"] for one in found).items():
        emptied += _shrink_series(unit, study, own_id, number)
    for instance in instances:
        study["classes"] = counted(study["classes"], instance.sop_class_uid, -1)
    study["n"] = {
        "00201206": study["n"]["00201206"] - emptied,
        "00201208": study["n"]["00201208"] - len(found),
    }
    unit.count(
        studies=-int(study["n"]["00201208"] == 0),
        series=-emptied,
        instances=-len(found),
        size_bytes=-sum(one.blob.size_bytes for one in instances),
    )
    _shrink_study(unit, study, (emptied, len(found)))
    return instances


def _contents_of(target: Target) -> Document:
    where: Document = {"study_uid": target.study_uid}
    own = (target.sop_uid and instance_id(target)) or (target.series_uid and series_id(target))
    if own:
        where["_id"] = {"$gt": f"{own}\\", "$lt": f"{own}]"}
    return where


def _shrink_study(unit: Unit, study: Document, gone: tuple[int, int]) -> None:
    identity = study["patient"]
    if study["n"]["00201208"] == 0:
        unit.drop("studies", study["_id"])
        _leave_patient(unit, identity, (1, *gone))
        return
    if study["inconsistent"]:
        _note_consistency(unit, study)
    if next(iter(unit.find("instances", {"_id": study["last"], "study_uid": study["_id"]}, {"_id": 1})), None) is None:
        _refresh_study(unit, study, gone)
    else:
        with_lists(study)
        _leave_patient(unit, identity, (0, *gone))


def _refresh_study(unit: Unit, study: Document, gone: tuple[int, int]) -> None:
    """Take the attributes of the last stored instance that is left, and go to the patient that it names."""
    last = _last(unit, Target(study["_id"]))
    rows = _rows_at(unit, last["_id"])
    study["last"], study["last_seq"], study["study_digest"] = last["_id"], last["seq"], rows.study_digest
    study.update(body(Level.STUDY, rows.study))
    with_lists(study)
    old_identity = study["patient"]
    if rows.identity == old_identity:
        _leave_patient(unit, old_identity, (0, *gone))
        return
    patient = unit.get("patients", rows.identity) or _make_patient(unit, rows.identity, unit.place())
    left = (1, study["n"]["00201206"], study["n"]["00201208"])
    study["patient"] = rows.identity
    if patient["d"] is None:
        patient["last"] = last["_id"]
        _use_patient(unit, patient, rows)
    study["p"] = _part(patient)
    _count(patient, left)
    _leave_patient(unit, old_identity, (1, left[1] + gone[0], left[2] + gone[1]))
    _leave_patient(unit, rows.identity, (0, 0, 0))


def _shrink_series(unit: Unit, study: Document, own_id: str, number: int) -> bool:
    """Count a series down; whether that emptied it, and it is gone."""
    series = unit.get("series", own_id)
    assert series is not None
    left = series["n"]["00201209"] - number
    if left == 0:
        study["modalities"] = counted(study["modalities"], series["modality"], -1)
        unit.drop("series", own_id)
        return True
    series["n"] = {"00201209": left}
    last = _last(unit, Target(study["_id"], series["series_uid"]))
    if last["_id"] != series["last"]:
        series["last"], series["last_seq"] = last["_id"], last["seq"]
        _use_series(series, study, _rows_at(unit, last["_id"]))
    return False


def _last(unit: Unit, target: Target) -> Document:
    """The last stored of a subtree's instances."""
    (found,) = unit.find("instances", subtree(target), {"seq": 1}).sort("seq", -1).limit(1)
    return dict(found)
